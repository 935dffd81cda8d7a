"""The slices of one model: values of its declared columns, a bounded number of them by code."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.shared.short_text import short_text
from tidemill.shared.statistics.histogram import LONGEST_NAME

Int64 = NDArray[np.int64]
MOST_SLICES = 64


@dataclass(slots=True)
class SliceNames:
    """Codes of the values of some columns: the first that come get one, 64 of all columns together.

    A row has one code for each column; -1 where its value is missing or has none. Which values are named follows from the order of the rows, not from
    how they were batched.

    Attributes
    ----------
    names
        ``column=value`` by code; empty where the code is free. The codes of a column follow each other.
    unnamed
        Rows whose value found no free code since the last `release`, by column.
    """

    columns: Sequence[str]
    names: list[str] = field(default_factory=list)
    unnamed: list[int] = field(default_factory=list)
    _codes: list[dict[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names = self.names or [""] * (self._each * len(self.columns))
        self.unnamed = self.unnamed or [0] * len(self.columns)
        self._index()

    @property
    def _each(self) -> int:
        return max(1, MOST_SLICES // max(1, len(self.columns)))

    def encode(self, batch: pa.RecordBatch) -> Int64:
        """Return the codes of rows, shape (n, columns); values that are new take free codes."""
        encoded = np.full((batch.num_rows, len(self.columns)), -1, np.int64)
        for place, column in enumerate(self.columns):
            parts = batch.column(column).cast(pa.string()).dictionary_encode()
            codes = np.array([self._code(place, value) for value in parts.dictionary.to_pylist()] + [-1], np.int64)
            encoded[:, place] = codes[parts.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
            if (-2 in codes) and (lost := int((encoded[:, place] == -2).sum())):
                self.unnamed[place] += lost
        return np.maximum(encoded, -1)

    def release(self, stale: Sequence[int]) -> list[int]:
        """Free codes of columns that have unnamed values; return those that were freed."""
        freed = [code for code in stale if self.names[code] and self.unnamed[code // self._each]]
        for code in freed:
            self.names[code] = ""
        self.unnamed = [0] * len(self.columns)
        self._index()
        return freed

    def snapshot(self) -> list[Any]:
        """State as plain lists and texts."""
        return [self.names, self.unnamed]

    def load(self, state: Sequence[Any]) -> None:
        """Take the state of a snapshot."""
        self.names, self.unnamed = list(state[0]), list(state[1])
        self._index()

    def _code(self, place: int, value: str) -> int:
        """Return the code of a value, -2 where none is free."""
        name = short_text(value, LONGEST_NAME)
        known = self._codes[place]
        if name not in known:
            begin = place * self._each
            free = next((code for code in range(begin, begin + self._each) if not self.names[code]), -2)
            if free < 0:
                return -2
            known[name], self.names[free] = free, f"{self.columns[place]}={name}"
        return known[name]

    def _index(self) -> None:
        self._codes = [{} for _ in self.columns]
        for code, name in enumerate(self.names):
            if name:
                self._codes[code // self._each][name.split("=", 1)[1]] = code
