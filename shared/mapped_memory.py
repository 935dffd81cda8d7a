"""Arrays that need not fit into memory: they lie in an unnamed file, so what is not in use leaves memory when that is short."""

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def mapped_words(shape: tuple[int, int], folder: Path | None) -> NDArray[np.int64]:
    """Return zeros of a shape, mapped from a file without a name, which goes with the array (also when the process is killed).

    Parameters
    ----------
    folder
        Where the file lies, made when needed; None: the system's folder for temporary files, which is often small or memory itself.
    """
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(prefix="tidemill-", dir=folder) as file:
        file.truncate(shape[0] * shape[1] * 8)
        return np.memmap(file, np.int64, "r+", shape=shape)
