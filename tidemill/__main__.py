"""The `tidemill` command: ``python -m tidemill``."""

import tidemill.shared.rare_collections  # noqa: F401 - before the libraries
from tidemill.services.cli.__main__ import main

if __name__ == "__main__":
    main()
