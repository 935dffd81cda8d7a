"""How the kernels are compiled: entry points are called from Python and cached on disk; what only they call needs no wrapper of its own."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding
from numba import carray, njit  # type: ignore[attr-defined, unused-ignore]
from numba.core import cgutils, config, types
from numba.extending import intrinsic


def _keyed_by_source() -> str:
    """Return a folder for compiled code that changes with any kernel: Numba itself looks at the entry point's own file only."""
    folder = Path(__file__).parent
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(folder.glob("*.py"))))
    base = getattr(config, "CACHE_DIR", "") or folder / "__pycache__"
    return str(Path(base) / f"features-{digest.hexdigest()[:12]}")


# A kernel is many small functions of a dozen arrays each, seven words an array: passing them costs more than what they do. Measured on the
# benchmark's W4: 18 % of the engine's time.
llvmlite.binding.set_option("tidemill", "-inline-threshold=10000")
setattr(config, "CACHE_DIR", _keyed_by_source())  # noqa: B010 - Numba makes its settings when it starts; no type knows them


def entry(function: Callable[..., object]) -> Any:  # noqa: ANN401, RUF100 - a dispatcher, which has no type
    """Compile a function that Python calls."""
    return njit(cache=True, nogil=True, error_model="numpy")(function)


def inner(function: Callable[..., object]) -> Any:  # noqa: ANN401, RUF100
    """Compile a function that only kernels call: less to compile, and nothing to cache."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return njit(**options)(function)


@intrinsic
def _pointer(_context: Any, address: Any) -> Any:  # noqa: ANN401, RUF100
    def emit(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:  # noqa: ANN401, RUF100
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), emit


@inner
def borrowed(array):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return the same memory as an array that owns nothing.

    Compiled code counts references, atomically, whenever it hands an array to a function or takes a row of it: with a dozen arrays that costs more
    than the arithmetic. The caller keeps the original alive.
    """
    return carray(_pointer(array.ctypes.data), array.shape, array.dtype)  # type: ignore[call-arg, unused-ignore]
