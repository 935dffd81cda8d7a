"""The `tidemill` command: ``python -m tidemill``."""

from tidemill.services.cli.__main__ import main

if __name__ == "__main__":
    main()
