"""Arrays that grow without being copied."""

import mmap
import os

import numpy as np
from numpy.typing import NDArray

_WORD = 8
# Named by the mmap module from Python 3.13 on.
_NO_RESERVE = 0x4000
_WISH_BYTES = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
_LEAST_BYTES = 1 << 26


def reserve_words(most_bytes: int = _WISH_BYTES) -> NDArray[np.int64]:
    """Return zeroed int64 words that take memory only where they are touched.

    Address space (by default as much as the machine has memory) is reserved once, so state grows without the copy
    (and the pause, and the doubled memory) of an array that is made anew.
    Where the system refuses so much address space, half is asked for, and so on down to 64 MiB.

    Raises
    ------
    MemoryError
        Not even the least was granted.
    """
    size = -(-most_bytes // _LEAST_BYTES) * _LEAST_BYTES
    while True:
        try:
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
            return np.frombuffer(mmap.mmap(-1, size, flags=flags), np.int64)
        except (OSError, ValueError) as error:
            size = size // 2 // _LEAST_BYTES * _LEAST_BYTES
            if size < _LEAST_BYTES:
                raise MemoryError(f"expected address space for feature state, at least {_LEAST_BYTES} bytes: {error}") from error


def touched_bytes(words: int) -> int:
    """Bytes of memory behind so many words."""
    return words * _WORD
