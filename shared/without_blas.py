"""Numba, in the process of a stage, leaves scipy's linear algebra alone.

When Numba loads its first kernel it looks for the BLAS that comes with scipy, for `np.dot` and the like inside of kernels: a quarter of a second of
CPU at every start of a stage, none of whose kernels multiplies matrices. Whoever imports scipy himself has it.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _NoBlas(MetaPathFinder):
    """Finds everything but scipy's linear algebra."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname in {"scipy", "scipy.linalg"}:
            raise ModuleNotFoundError("Numba is not shown scipy in this process", name=fullname)
        return None


def leave_out_blas() -> None:
    """Let Numba look for BLAS now, and find none; nothing where Numba is not imported, or has looked before."""
    if "numba" not in sys.modules:
        return
    finder = _NoBlas()
    sys.meta_path.insert(0, finder)
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        sys.meta_path.remove(finder)
