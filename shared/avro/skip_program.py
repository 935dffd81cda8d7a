"""Avro types as flat tables, so that compiled code can walk over a value without knowing its type."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.avro.schema_tree import AvroType

NOTHING, ONE, INT32, INT64, FIXED, LENGTH, SYMBOL, ARRAY, MAP, UNION, RECORD = range(11)
_OF = {
    "null": NOTHING, "boolean": ONE, "int": INT32, "long": INT64, "float": FIXED, "double": FIXED, "bytes": LENGTH, "string": LENGTH,
    "fixed": FIXED, "enum": SYMBOL, "array": ARRAY, "map": MAP, "union": UNION, "record": RECORD,
}  # fmt: skip
_SIZES = {"float": 4, "double": 8}


@dataclass(frozen=True, slots=True)
class SkipTable:
    """Nodes by number.

    Attributes
    ----------
    nodes : int64 array, shape (nodes, 3)
        What it is; its size (of fixed bytes), symbols (of an enum) or children (how many); where its children begin.
    children : int64 array
        Numbers of nodes.
    """

    nodes: NDArray[np.int64]
    children: NDArray[np.int64]


class SkipProgram:
    """Collects types and numbers them; a recursive type is a cycle of numbers."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._types: list[AvroType] = []

    def number(self, kind: AvroType) -> int:
        """Return the node of a type."""
        if id(kind) not in self._numbers:
            self._numbers[id(kind)] = len(self._types)
            self._types.append(kind)
        return self._numbers[id(kind)]

    def table(self) -> SkipTable:
        """Return everything numbered so far, and what it is made of."""
        rows: list[tuple[int, int, int]] = []
        children: list[int] = []
        while len(rows) < len(self._types):
            kind = self._types[len(rows)]
            inner = [field.type for field in kind.fields] if kind.kind == "record" else kind.branches
            size = len(inner) or len(kind.symbols) or kind.size or _SIZES.get(kind.kind, 0)
            rows.append((_OF[kind.kind], size, len(children)))
            children.extend(map(self.number, inner))
        return SkipTable(np.array(rows, np.int64).reshape(-1, 3), np.array(children, np.int64))
