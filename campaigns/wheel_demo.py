"""The wheel in an empty environment, outside of the repository, runs the demo: ``python -m campaigns.wheel_demo --days 45``.

Bar: the demo ends well, with a promotion, and nothing of the repository is imported.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from tidemill.deploy.wheel import build, constraints


def installed(folder: Path) -> Path:
    """Make an environment with the wheel and nothing else but what it asks for; returns its folder of programs."""
    environment = folder / "environment"
    venv.create(environment, with_pip=True)
    wheel, versions = build(folder), folder / "constraints.txt"
    versions.write_text(constraints(), encoding="utf-8")
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", versions, wheel], check=True, cwd=folder)
    return environment / "bin"


def main() -> None:
    """Build, install, run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=45)
    days = parser.parse_args().days
    outside = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "NUMBA_CACHE_DIR", "VIRTUAL_ENV")}
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room)
        begun = time.monotonic()
        programs = installed(folder)
        print(f"Installed into an empty environment in {time.monotonic() - begun:.0f} s.", flush=True)
        where = [str(programs / "python"), "-c", "import tidemill.shared; print(tidemill.shared.__path__[0])"]
        origin = subprocess.run(where, check=True, capture_output=True, text=True, cwd=folder, env=outside).stdout.strip()
        if not origin.startswith(str(folder)):
            sys.exit(f"expected the wheel's packages below {folder}, found {origin}")
        begun = time.monotonic()
        subprocess.run([programs / "tidemill", "demo", "--days", str(days)], check=True, cwd=folder, env=outside)
        figures = json.loads((folder / "demo-report.json").read_text(encoding="utf-8"))
        print(f"The demo of {days} days took {time.monotonic() - begun:.0f} s and promoted {figures['promotions']} models.")
        if not figures["promotions"]:
            sys.exit("expected at least one promotion, found none")


if __name__ == "__main__":
    main()
