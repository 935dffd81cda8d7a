"""Which run a command means: the one it is told, else the last one of the application."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from deploy.embedded.infrastructure import VARIABLES
from services.cli.instance import FILE, InstanceError, read_instance
from services.cli.terminal import DEFAULT_FOLDER, errors
from shared.observability.settings import LakeSettings

_REPLAYS, _DEMOS = Path(".tidemill/replay"), Path(".tidemill/demo")
_MADE_AT = r"-\d{8}-\d{6}-[0-9a-f]{4}"
_LAKE = "TIDEMILL_LAKE__URI"
RunFolder = Annotated[Path | None, typer.Option("--run", help="Folder of the run. (default: the last one of the application in .tidemill)")]
LakeUri = Annotated[
    str | None, typer.Option("--lake", help="Where the archive lies, a folder or an object store's address. (default: in the run's folder)")
]


def last_run(app: str, archived: bool = False) -> Path:
    """Return the folder of the run that goes on, else of the one that was started or ended last, else the one that `up` would make.

    Parameters
    ----------
    archived
        Whether only runs count that have archived something; those of the demo do, which leave nothing else that a command could reach.
    """
    replays = [folder for folder in _REPLAYS.glob(f"{app}-*") if re.fullmatch(re.escape(app) + _MADE_AT, folder.name)]
    folders = [folder for folder in (DEFAULT_FOLDER / app, *replays) if (folder / FILE).is_file()]
    if archived:
        folders = [folder for folder in (*folders, *_DEMOS.glob("*")) if (folder / "lake" / app).is_dir()]
    return max(folders, key=lambda folder: (_goes_on(folder), _touched(folder)), default=DEFAULT_FOLDER / app)


def run_folder(app: str, run: Path | None, environment: Mapping[str, str]) -> Path:
    """Return the folder of the run that is meant; one that was not named is told on the terminal."""
    if run is not None:
        return run
    folder = last_run(app)
    if not all(environment.get(name, "").strip() for name in VARIABLES) and folder.is_dir():
        _tell(folder)
    return folder


def lake_uri(app: str, lake: str | None, run: Path | None, environment: Mapping[str, str]) -> str:
    """Return where the archive that is meant lies: `lake`, or that of a run, or as the environment says, or that of the last run.

    Raises
    ------
    InstanceError
        No run has archived anything.
    """
    if lake is not None and run is not None:
        raise typer.BadParameter("give one of them: a run has its archive in its folder", param_hint="--lake, --run")
    if lake is not None:
        return lake
    if run is not None:
        return str(run / "lake")
    if environment.get(_LAKE, "").strip():
        return environment[_LAKE]
    if all(environment.get(name, "").strip() for name in VARIABLES):
        return LakeSettings().uri
    folder = last_run(app, archived=True)
    if not (folder / "lake").is_dir():
        raise InstanceError(
            f"expected a run of {app} that has archived something, found none in {DEFAULT_FOLDER.parent}; name one with --run, or the archive with"
            " --lake (a run archives half a minute after its first records, and when it stops)"
        )
    _tell(folder)
    return str(folder / "lake")


def _tell(folder: Path) -> None:
    errors.print(f"run: {folder}", markup=False, highlight=False, soft_wrap=True)


def _goes_on(folder: Path) -> bool:
    try:
        instance = read_instance(folder)
    except InstanceError:  # Told when the run is used; here it must not hide the others.
        return False
    return instance is not None and instance.runs


def _touched(folder: Path) -> float:
    file = folder / FILE
    return (file if file.is_file() else folder / "lake").stat().st_mtime
