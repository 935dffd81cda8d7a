"""Memory that is free gets back to the system."""

import ctypes
import sys

import pyarrow as pa


def release_memory() -> None:
    """Give back what allocators hold for later; call after work that takes much memory and is rare.

    A large piece of work leaves glibc's heaps, one for each thread that took part, as large as they were at its height, and Arrow's pool too. Takes
    some milliseconds. Where there is no glibc, only Arrow's pool is asked.
    """
    pa.default_memory_pool().release_unused()
    trim = getattr(_C, "malloc_trim", None)
    if trim is not None:
        trim(0)


_C = ctypes.CDLL(None) if sys.platform == "linux" else None
