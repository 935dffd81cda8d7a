"""The files that an application is made of, as text that can be kept and written again."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from tidemill.shared.application.document import SECTIONS
from tidemill.shared.application.families import is_own
from tidemill.shared.application.planning import load_application


def application_files(folder: Path) -> list[Path]:
    """Return the files that an application is made of: its YAML, its Avro schemas, and its Python modules where an estimator is its own.

    Raises
    ------
    ApplicationError
        The application is wrong.
    """
    application = load_application(folder)
    files = [folder / "app.yaml", *(file for section in SECTIONS for file in (folder / section).glob("*.yaml"))]
    files += [folder / stream.schema_file for stream in application.streams.values()]
    if any(is_own(family) for model in application.models.values() for family in model.training.families):
        modules = (file for file in folder.rglob("*.py") if file.is_file())
        files += [file for file in modules if not any(part.startswith((".", "__pycache__")) for part in file.relative_to(folder).parts)]
    return sorted({Path(os.path.abspath(file)) for file in files})


def content_digest(folder: Path) -> str:
    """Return the digest of an application's content: the names and the bytes of its files. Comments count; where the folder stands does not."""
    digest, root = hashlib.sha256(), Path(os.path.abspath(folder))
    for file in application_files(folder):
        for part in (os.path.relpath(file, root).encode(), file.read_bytes()):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def application_texts(folder: Path) -> tuple[dict[str, str], str]:
    """Return the text of each file by its path, and the application's folder among those paths; ApplicationError when the application is wrong."""
    root, files = Path(os.path.abspath(folder)), application_files(folder)
    base = Path(os.path.commonpath([root, *(file.parent for file in files)]))
    return {file.relative_to(base).as_posix(): file.read_text(encoding="utf-8") for file in files}, root.relative_to(base).as_posix()


def write_application(texts: Mapping[str, str], root: str, target: Path) -> Path:
    """Write an application's files again below a folder, and return the application's own; ValueError of a path that leads out of it."""
    for name, text in texts.items():
        file = target / name
        if not file.resolve().is_relative_to(target.resolve()):
            raise ValueError(f"expected files below {target}, got {name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return target / root
