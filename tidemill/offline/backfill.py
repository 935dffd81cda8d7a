"""Vectors over the archived journal: the same fold as online, so the same bits, for any range of journal time and any version of the views."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from tidemill.offline.fold_start import StartRefusedError, check_start
from tidemill.offline.state_snapshot import StateSnapshot
from tidemill.services.features.domain.core import FeaturesCore
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.lake.journal import ArchivedJournal

_ALL = 1 << 62


@dataclass(frozen=True, slots=True)
class BackfillRange:
    """What is computed, in journal time (ms).

    Attributes
    ----------
    from_ms, to_ms
        Vectors in [from, to); None for the journal's beginning and end.
    start_ms
        Records before it are not read at all; None for the beginning, or the snapshot.
    """

    from_ms: int | None = None
    to_ms: int | None = None
    start_ms: int | None = None

    def __post_init__(self) -> None:
        if self.from_ms is not None and self.to_ms is not None and self.from_ms >= self.to_ms:
            raise StartRefusedError(f"expected --from before --to, got {self.from_ms} and {self.to_ms} (journal time, ms)")


@dataclass(slots=True)
class Backfill:
    """One fold over the archive, partition after partition; `vectors` streams, and `snapshot` is complete once it is exhausted.

    Pure apart from reading the lake: no clock. Memory is a span of the journal, its vectors, and the state of one partition (of all with
    `keep_state`).

    Raises
    ------
    StartRefusedError
        The start would give other features: see `check_start`; or the snapshot is not of this archive, or from behind the range.
    """

    plan: Plan
    journal: ArchivedJournal
    span: BackfillRange = field(default_factory=BackfillRange)
    state: StateSnapshot | None = None
    keep_state: bool = False
    progress: Callable[[int], None] | None = None
    _positions: dict[int, int] = field(default_factory=dict)
    _times: dict[int, int] = field(default_factory=dict)
    _entries: dict[int, dict[bytes, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.span.start_ms is not None:
            if self.state is not None or self.keep_state:
                raise StartRefusedError(
                    "expected --start alone: a snapshot is the state since the beginning, so it neither begins nor ends such a fold"
                )
            check_start(self.plan, self.span.start_ms, self.span.from_ms)
        if self.state is not None:
            self._check_state(self.state)

    def _check_state(self, state: StateSnapshot) -> None:
        for table, identity in state.tables.items():
            if self.journal.identities.get(table) != identity:
                raise StartRefusedError(f"expected a snapshot of this archive, found one of another {table}; begin at the beginning")
        for partition, position in state.positions.items():
            if partition not in self.journal.partitions or position > self.journal.bounds(partition)[1] + 1:
                raise StartRefusedError(
                    f"expected a snapshot of this archive, found one at offset {position} of partition {partition}, behind the last record archived"
                )
            if self.span.from_ms is None or self.span.from_ms <= state.times_ms[partition]:
                raise StartRefusedError(
                    f"expected a range that begins after the snapshot, which is of journal time {state.times_ms[partition]} (partition {partition}); "
                    f"it begins at {'the beginning' if self.span.from_ms is None else self.span.from_ms}: move --from, or leave --from-state out"
                )

    @property
    def total(self) -> int:
        """Journal offsets to read, for a progress bar."""
        return sum(self.journal.bounds(p)[1] + 1 - self._begin(p) for p in self.journal.partitions)

    def vectors(self) -> Iterator[pa.RecordBatch]:
        """Fold, and give the vectors of the range as they come: by partition, then journal offset."""
        for partition in self.journal.partitions:
            core = FeaturesCore(self.plan)
            if self.state is not None:
                core.restore(self.state.entries_of(partition))
                self._positions[partition] = self.state.positions.get(partition, 0)
                self._times[partition] = self.state.times_ms.get(partition, -1)
                if self.keep_state:
                    self._entries[partition] = dict(self.state.entries.get(partition, {}))
            done = begin = self._begin(partition)
            for batch in self.journal.batches(partition, begin, self.span.to_ms):
                made = self._inside(core.process(batch))
                self._positions[partition], self._times[partition] = int(batch.offsets[-1]) + 1, int(batch.journal_time_ms[-1])
                if self.progress is not None:
                    self.progress(self._positions[partition] - done)
                done = self._positions[partition]
                if made.num_rows:
                    yield made
            if self.keep_state:
                self._take(partition, core)

    def snapshot(self) -> StateSnapshot:
        """Return the state after the fold."""
        if not self.keep_state:
            raise ValueError("expected keep_state when the fold began: its state was given up partition by partition")
        return StateSnapshot(dict(self._positions), dict(self._times), dict(self.journal.identities), dict(self._entries))

    def _begin(self, partition: int) -> int:
        if self.state is not None and partition in self.state.positions:
            return self.state.positions[partition]
        first = self.journal.bounds(partition)[0]
        return first if self.span.start_ms is None else self.journal.offset_at(partition, self.span.start_ms)

    def _inside(self, vectors: pa.RecordBatch) -> pa.RecordBatch:
        if self.span.from_ms is None or not vectors.num_rows:
            return vectors
        # Journal time never runs backwards, so the range is a tail.
        return vectors.slice(int(np.searchsorted(int64_ms(vectors.column("_journal_time")), self.span.from_ms)))

    def _take(self, partition: int, core: FeaturesCore) -> None:
        kept = self._entries.setdefault(partition, {})
        for entry in core.take_dirty(_ALL):
            if entry.value is None:
                kept.pop(entry.key, None)
            else:
                kept[entry.key] = entry.value
