"""A lake in memory: what `tidemill.shared.lake.tables.Lake` promises its writer, a hundred times faster, and every row countable."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike


class MemoryLake:
    """Tables that take every batch once: a writer's last offset is recorded in the same commit as its rows."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], list[int]] = {}
        self._last: dict[tuple[str, str], int] = {}

    def append(self, table: str, batch: pa.Table, writer: str, offsets: ArrayLike) -> int:
        """Append the rows above the writer's recorded offset."""
        places = np.asarray(offsets, np.int64)
        if len(places) != batch.num_rows or (np.diff(places) < 0).any():
            raise ValueError(f"{table}: expected an ascending offset for each of {batch.num_rows} rows, got {places.tolist()}")
        address = (table, writer)
        fresh = places[places > self._last.get(address, -1)]
        if len(fresh):
            self.rows.setdefault(address, []).extend(fresh.tolist())
            self._last[address] = int(fresh[-1])
        return len(fresh)

    def tables(self) -> Sequence[tuple[str, str]]:
        """Return every (table, writer) that has rows."""
        return sorted(self.rows)
