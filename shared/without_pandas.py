"""Import this first, and Arrow leaves pandas alone.

Arrow looks for pandas when it makes its first array, and imports it where it is installed: a quarter of a second of CPU and 30 MB in every process of
a stage, none of which uses it. Arrow is told once, here, that there is none. Whoever imports pandas later has it, `to_pandas` too; but Arrow then
takes a `pandas.Series` for any sequence, so this is not for processes that run an application's own code (retraining, the command line).
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import pyarrow as pa


class _NoPandas(MetaPathFinder):
    """Finds everything but pandas."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is left out of this process", name=fullname)
        return None


def _tell_arrow() -> None:
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        # Whatever array is the first.
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)


_tell_arrow()
