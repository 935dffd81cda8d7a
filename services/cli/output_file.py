"""Files that commands write where their users say: looked at before the work begins."""

from pathlib import Path
from tempfile import TemporaryFile

import typer


def output_file(path: Path | None) -> Path | None:
    """Refuse what cannot become a file, or would be replaced and is none, as a callback of an option: a run of an hour must not end there.

    The folder of the file is made.

    Raises
    ------
    BadParameter
        A folder, a device (`/dev/null` would be a file from then on), a place where no file can be.
    """
    if path is None:
        return None
    try:
        if path.exists() and not path.is_file():
            what = "a folder" if path.is_dir() else "no file but a device or a pipe, which would be replaced"
            raise typer.BadParameter(f"expected a file to write, {path} is {what}")
        path.parent.mkdir(parents=True, exist_ok=True)
        # A folder may be one where nobody writes, whatever its permissions say: on a disk that is read only, or in /proc.
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as problem:
        raise typer.BadParameter(f"expected a file that can be written, found {path}: {problem.strerror}") from problem
    return path


def output_folder(path: Path | None) -> Path | None:
    """Refuse what cannot become a folder, or is a file, as a callback of an option."""
    if path is None:
        return None
    try:
        if path.exists() and not path.is_dir():
            raise typer.BadParameter(f"expected a folder, {path} is none")
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise typer.BadParameter(f"expected a folder that can be written, found {path}: {problem.strerror}") from problem
    return path
