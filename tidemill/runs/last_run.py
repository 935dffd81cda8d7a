"""Which run of an application is meant when none is named: the last one."""

import re
from collections.abc import Mapping
from pathlib import Path

from tidemill.deploy.embedded.infrastructure import VARIABLES
from tidemill.runs.instance import FILE, InstanceError, read_instance

RUNS = Path(".tidemill")
UP = RUNS / "up"
_MADE_AT = r"-\d{8}-\d{6}-[0-9a-f]{4}"


def last_run(app: str, archived: bool = False) -> Path:
    """Return the folder of the run that goes on, else of the one that was started or ended last, else the one that `up` would make.

    Parameters
    ----------
    archived
        Whether only runs count that have archived something; those of the demo do, which leave nothing else that a command could reach.
    """
    replays = [folder for folder in (RUNS / "replay").glob(f"{app}-*") if re.fullmatch(re.escape(app) + _MADE_AT, folder.name)]
    folders = [folder for folder in (UP / app, *replays) if (folder / FILE).is_file()]
    if archived:
        folders = [folder for folder in (*folders, *(RUNS / "demo").glob("*")) if (folder / "lake" / app).is_dir()]
    return max(folders, key=lambda folder: (_goes_on(folder), _touched(folder)), default=UP / app)


def last_archive(app: str) -> Path:
    """Return the folder of the last run that has archived something.

    Raises
    ------
    InstanceError
        There is none.
    """
    folder = last_run(app, archived=True)
    if not (folder / "lake" / app).is_dir():
        raise InstanceError(
            f"expected a run of {app} that has archived something, found none in {RUNS}; name one with --run, or the archive with --lake"
            " (a run archives half a minute after its first records, and when it stops)"
        )
    return folder


def servers_are_given(environment: Mapping[str, str]) -> bool:
    """Say whether the environment names the servers, which comes before any folder."""
    return all(environment.get(name, "").strip() for name in VARIABLES)


def _goes_on(folder: Path) -> bool:
    try:
        instance = read_instance(folder)
    except InstanceError:  # Told when the run is used; here it must not hide the others.
        return False
    return instance is not None and instance.runs


def _touched(folder: Path) -> float:
    file = folder / FILE
    return (file if file.is_file() else folder / "lake").stat().st_mtime
