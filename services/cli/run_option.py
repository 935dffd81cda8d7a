"""`--run` and `--lake`: how a command finds its run, and says which one it took."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from tidemill.runs.last_run import last_archive, last_run, servers_are_given
from tidemill.services.cli.terminal import errors
from tidemill.shared.observability.settings import LakeSettings

_LAKE = "TIDEMILL_LAKE__URI"
RunFolder = Annotated[Path | None, typer.Option("--run", help="Folder of the run. (default: the last one of the application in .tidemill)")]
LakeUri = Annotated[
    str | None, typer.Option("--lake", help="Where the archive lies, a folder or an object store's address. (default: in the run's folder)")
]


def run_folder(app: str, run: Path | None, environment: Mapping[str, str]) -> Path:
    """Return the folder of the run that is meant; one that was not named is told on the terminal."""
    if run is not None:
        return run
    folder = last_run(app)
    if not servers_are_given(environment) and folder.is_dir():
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
    if servers_are_given(environment):
        return LakeSettings().uri
    folder = last_archive(app)
    _tell(folder)
    return str(folder / "lake")


def _tell(folder: Path) -> None:
    errors.print(f"run: {folder}", markup=False, highlight=False, soft_wrap=True)
