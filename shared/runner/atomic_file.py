"""Small files that are whole after any kill: the new text replaces the old one or does not."""

import os
from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Write a file so that a reader finds the text before or this one, whatever ends the process or the machine.

    Raises
    ------
    OSError
        The disk refuses; the text before stands.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.draft")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
