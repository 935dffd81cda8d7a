"""Arrays that need not fit into memory: large ones lie in an unnamed file, so what is not in use leaves memory when that is short."""

import logging
import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)
# A page of a mapped file costs some ten microseconds when it is written first after each time that the system has saved it.
_SMALL_BYTES = 64 << 20


def mapped_words(shape: tuple[int, int], folder: Path | None) -> NDArray[np.int64]:
    """Return zeros of a shape, mapped from a file without a name, which goes with the array (also when the process is killed).

    Up to 64 MiB they lie in memory, and so do more where the disk has no room for them, which is reported.

    Parameters
    ----------
    folder
        Where the file lies, made when needed; None: the system's folder for temporary files, which is often small or memory itself.
    """
    size = shape[0] * shape[1] * 8
    if size <= _SMALL_BYTES:
        return np.zeros(shape, np.int64)
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(prefix="tidemill-", dir=folder) as file:
            # With its blocks: a page that finds no room on the disk later ends the process, and looking for room at each page takes its time.
            os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, np.int64, "r+", shape=shape)
    except OSError as problem:
        log.warning("no file for a table: it lies in memory", extra={"bytes": size, "folder": str(folder), "error": str(problem)})
        return np.zeros(shape, np.int64)
