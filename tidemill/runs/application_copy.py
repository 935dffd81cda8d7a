"""The application as a run has it: its files, kept with the run, so that an edited folder changes nothing until it is applied."""

import hashlib
import os
import shutil
from pathlib import Path

from tidemill.shared.application.document import SECTIONS
from tidemill.shared.application.families import is_own
from tidemill.shared.application.planning import load_application

COPIES = "applications"
_DIGITS = 16


def application_files(folder: Path) -> list[Path]:
    """Return the files that an application is made of: its YAML, its Avro schemas, and its Python modules where an estimator is its own.

    Raises
    ------
    ApplicationError
        The application is wrong.
    """
    application = load_application(folder)
    found = [folder / "app.yaml", *(file for section in SECTIONS for file in (folder / section).glob("*.yaml"))]
    found += [folder / stream.schema_file for stream in application.streams.values()]
    if any(is_own(family) for model in application.models.values() for family in model.training.families):
        found += [file for file in folder.rglob("*.py") if not any(part.startswith((".", "__pycache__")) for part in file.relative_to(folder).parts)]
    return sorted({Path(os.path.abspath(file)) for file in found})


def content_digest(folder: Path) -> str:
    """Return the digest of an application's content: the names and the bytes of its files. Comments count; where the folder stands does not."""
    digest, root = hashlib.sha256(), Path(os.path.abspath(folder))
    for file in application_files(folder):
        for part in (os.path.relpath(file, root).encode(), file.read_bytes()):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


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
    found = sorted((run / COPIES).glob("*/**/app.yaml"), key=lambda file: file.stat().st_ctime_ns)
    return [file.parent for file in found if not any(".part-" in part for part in file.parts)]
