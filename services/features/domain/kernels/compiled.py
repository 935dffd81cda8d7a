"""How the kernels are compiled: entry points are called from Python and cached on disk; what only they call needs no wrapper of its own."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding
from numba import njit
from numba.core import config


def _keyed_by_source() -> str:
    """Return a folder for compiled code that changes with any kernel: Numba itself looks at the entry point's own file only."""
    folder = Path(__file__).parents[1]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(folder.rglob("*.py"))))
    base = getattr(config, "CACHE_DIR", "") or folder / "__pycache__"
    return str(Path(base) / f"features-{digest.hexdigest()[:12]}")


# A kernel is many small functions, each of which takes a few structures of arrays, seven words an array: passing them costs more than what they do,
# so all of them are to be inlined. At a threshold of 10,000 not all are, which is 40 % of the engine's time on the benchmark's W4.
llvmlite.binding.set_option("tidemill", "-inline-threshold=100000")
_ALLOCATING: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "_nrt": True}
_INNER: dict[str, Any] = {**_ALLOCATING, "_nrt": False}
_ENTRY: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}
_CACHE_DIR = _keyed_by_source()


def entry(function: Callable[..., object], **options: Any) -> Any:  # a dispatcher, which has no type
    """Compile a function that Python calls.

    Numba chooses the folder of a function's compiled code when it decorates the function, by one setting of the process. The setting is put back
    here: otherwise whether a function of another room is found on disk, or compiled again, would depend on what the process imported before it.
    """
    before = getattr(config, "CACHE_DIR", "")
    setattr(config, "CACHE_DIR", _CACHE_DIR)  # noqa: B010 - Numba makes its settings when it starts; no type knows them
    try:
        return njit(**_ENTRY, **options)(function)
    finally:
        setattr(config, "CACHE_DIR", before)  # noqa: B010


def counting_nothing(function: Callable[..., object]) -> Any:
    """Compile a function that Python calls, and that makes no array itself: no references are counted (see `inner`).

    A function between the two, only for that, is all of the kernel once more: as much to compile again.
    """
    return entry(function, _nrt=False)


def inner(function: Callable[..., object]) -> Any:
    """Compile a function that only kernels call and that makes no array: less to compile, nothing to cache, and no references are counted.

    A call of Numba's reference counter for every array at every turn, even for one that owns nothing, was half the time of the fold.
    """
    return njit(**_INNER)(function)


def allocating(function: Callable[..., object]) -> Any:
    """Compile a function as `inner` does, but one that makes arrays of its own."""
    return njit(**_ALLOCATING)(function)
