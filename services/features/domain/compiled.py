"""How the kernels are compiled: entry points are called from Python and cached on disk; what only they call needs no wrapper of its own."""

from collections.abc import Callable
from typing import TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


def entry(function: Function) -> Function:
    """Compile a function that Python calls."""
    compiled: Function = njit(cache=True, nogil=True, error_model="numpy")(function)
    return compiled


def inner(function: Function) -> Function:
    """Compile a function that only kernels call: half the compile time, and nothing to cache."""
    compiled: Function = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)
    return compiled
