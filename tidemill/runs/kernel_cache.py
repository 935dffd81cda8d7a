"""How many compiled kernels are on disk: what the first run on a machine waits for."""

import os
from pathlib import Path

import tidemill

_VARIABLE = "NUMBA_CACHE_DIR"
_ROOMS = ("services", "shared")


def compiled_kernels() -> int:
    """Return the number of functions that Numba has compiled and kept: in its folder if it was given one, else beside the code."""
    folder = os.environ.get(_VARIABLE)
    places = [Path(folder)] if folder else [(Path(tidemill.__file__).parent / room).resolve() for room in _ROOMS]
    return sum(1 for place in places for _ in place.rglob("*.nbi"))
