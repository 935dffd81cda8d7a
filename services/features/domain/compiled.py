"""How the kernels are compiled: entry points are called from Python and cached on disk; what only they call needs no wrapper of its own."""

from collections.abc import Callable
from typing import Any

from numba import njit


def entry(function: Callable[..., object]) -> Any:  # noqa: ANN401, RUF100 - a dispatcher, which has no type
    """Compile a function that Python calls."""
    return njit(cache=True, nogil=True, error_model="numpy")(function)


def inner(function: Callable[..., object]) -> Any:  # noqa: ANN401, RUF100
    """Compile a function that only kernels call: less to compile, and nothing to cache."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return njit(**options)(function)
