"""What one step adds to the journal, and the marks in it: where a stream was paused or resumed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.ingestion.domain.journal_clock import TICK


@dataclass(frozen=True, slots=True)
class PauseMark:
    """Where in the journal a stream was paused, or resumed."""

    stream: str
    paused: bool


@dataclass(frozen=True, slots=True)
class JournalRun:
    """What a step adds to the journal, in order.

    Attributes
    ----------
    source : int64 array, shape (n,)
        Stream index, -1 for ticks.
    time_ms : int64 array, shape (n,)
        Journal times, monotone.
    entries
        Per stream its entries (columns of the entry schema), in the order in which its index appears in `source`.
    keys
        Per stream the keys of its entries, text.
    marks
        By row of a tick, what it marks.
    """

    source: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    entries: Mapping[str, pa.RecordBatch]
    keys: Mapping[str, pa.Array]
    marks: Mapping[int, PauseMark] = field(default_factory=dict)

    def begun_with(self, marks: Sequence[PauseMark], time_ms: int) -> "JournalRun":
        """Return it with ticks before its first record that bear marks."""
        n = len(marks)
        if not n:
            return self
        source, times = np.concatenate([np.full(n, TICK), self.source]), np.concatenate([np.full(n, time_ms), self.time_ms])
        moved = {row + n: mark for row, mark in self.marks.items()}
        return replace(self, source=source, time_ms=times, marks={**dict(enumerate(marks)), **moved})

    def ended_with(self, marks: Sequence[PauseMark], time_ms: int) -> "JournalRun":
        """Return it with ticks behind its last record that bear marks."""
        n, end = len(marks), len(self.source)
        if not n:
            return self
        source, times = np.concatenate([self.source, np.full(n, TICK)]), np.concatenate([self.time_ms, np.full(n, time_ms)])
        return replace(self, source=source, time_ms=times, marks={**self.marks, **{end + k: mark for k, mark in enumerate(marks)}})
