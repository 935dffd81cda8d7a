"""Where the embedded infrastructure keeps its files: everything is below `.tidemill/` of the project."""

import os
import secrets
import shutil
from datetime import UTC, datetime
from pathlib import Path

KEPT_RUNS = 3


def project_root() -> Path:
    """Find the project: the checkout this package lies in, else the nearest folder above the working directory that looks like one.

    Returns
    -------
    Path
        The checkout (it has a `pyproject.toml`), else the nearest folder with a `.tidemill`, `pyproject.toml` or `app.yaml`,
        else the working directory.
    """
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file():
        return checkout
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if any((folder / mark).exists() for mark in (".tidemill", "pyproject.toml", "app.yaml")):
            return folder
    return here


def cache_folder() -> Path:
    """Give the folder of what may be deleted and fetched again."""
    folder = project_root() / ".tidemill" / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def new_run_folder() -> Path:
    """Make a fresh folder for one run's data and logs and drop old ones, the last few and those of living processes excepted."""
    runs = project_root() / ".tidemill" / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    _drop_old_runs(runs)
    folder = runs / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}-{secrets.token_hex(2)}"
    folder.mkdir()
    return folder


def _drop_old_runs(runs: Path) -> None:
    dead = [folder for folder in sorted(runs.iterdir()) if folder.name.count("-") == 3 and not _is_alive(int(folder.name.split("-")[2]))]
    for folder in dead[: max(0, len(dead) - KEPT_RUNS)]:
        shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
