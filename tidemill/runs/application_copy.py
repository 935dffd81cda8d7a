"""The application as a run has it: its files, kept with the run, so that an edited folder changes nothing until it is applied."""

import os
import shutil
from pathlib import Path

from tidemill.shared.application.application_files import application_files, content_digest

COPIES = "applications"
_DIGITS = 16


def keep_application(folder: Path, run: Path) -> Path:
    """Copy an application into a run's folder, and return the copy's: the same one for the same content.

    Files outside of the application's folder (a schema that several applications share) keep their place relative to it.

    Raises
    ------
    ApplicationError
        The application is wrong.
    """
    root, files = Path(os.path.abspath(folder)), application_files(folder)
    base = Path(os.path.commonpath([root, *(file.parent for file in files)]))
    place = run / COPIES / content_digest(folder)[:_DIGITS]
    if not place.is_dir():
        part = place.with_name(f"{place.name}.part-{os.getpid()}")
        shutil.rmtree(part, ignore_errors=True)
        for file in files:
            target = part / file.relative_to(base)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        part.rename(place)
    return place / root.relative_to(base)


def kept_applications(run: Path) -> list[Path]:
    """Return the folders of all applications that a run has had, the oldest first."""
    files = sorted((run / COPIES).glob("*/**/app.yaml"), key=lambda file: file.stat().st_ctime_ns)
    return [file.parent for file in files if not any(".part-" in part for part in file.parts)]
