"""The log behind `MemoryBroker`: partitions, transactions with markers and a last stable offset, groups with generations."""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.log.packed import chained, taken
from tidemill.shared.log.records import Columns, Records, TopicPartition

OPEN, COMMITTED, ABORTED = "open", "committed", "aborted"
_NOTHING: NDArray[np.int64] = np.empty(0, np.int64)


@dataclass(slots=True)
class Transaction:
    """One transaction of one producer: its fate decides what its records are worth."""

    state: str = OPEN
    partitions: set[TopicPartition] = field(default_factory=set)
    offsets: dict[tuple[str, TopicPartition], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as the log holds it, whatever became of its transaction."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    transaction: Transaction | None


@dataclass(frozen=True, slots=True)
class _Run:
    """Records that were written together."""

    records: Records
    transaction: Transaction | None

    @property
    def is_open(self) -> bool:
        return self.transaction is not None and self.transaction.state == OPEN

    @property
    def is_committed(self) -> bool:
        return self.transaction is None or self.transaction.state == COMMITTED


class PartitionLog:
    """One partition: runs of records as they were written, each with its offsets.

    The end of a transaction and what compaction has removed take offsets at which there is nothing.

    Attributes
    ----------
    low, end
        First offset that is kept, and offset of the next record.
    """

    def __init__(self, address: TopicPartition) -> None:
        self.address = address
        self.low = self.end = 0
        self._runs: list[_Run] = []
        self._starts: list[int] = []
        # Runs that were open when they were last looked at, oldest first.
        self._open: deque[_Run] = deque()

    @property
    def entries(self) -> list[Entry]:
        """Every record that is kept, those of open and of aborted transactions included."""
        entries = []
        for run in self._runs:
            records = run.records
            rows = zip(records.offsets.tolist(), records.timestamps_ms.tolist(), records.keys, records.values, strict=True)
            entries += [Entry(*row, run.transaction) for row in rows]
        return entries

    def append(
        self,
        timestamps_ms: NDArray[np.int64],
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        transaction: Transaction | None,
        columns: Columns | None = None,
    ) -> None:
        """Write records at the end, with what they were encoded from where readers are to have it."""
        n = len(values)
        if n:
            run = _Run(Records(*self.address, np.arange(self.end, self.end + n), timestamps_ms, keys, values, columns), transaction)
            self._runs.append(run)
            self._starts.append(self.end)
            if run.is_open:
                self._open.append(run)
            self.end += n

    def mark(self) -> None:
        """Write the end of a transaction."""
        self.end += 1

    def copy(self, records: Records) -> None:
        """Write records at the offsets that they have: a copy keeps the gaps of its original, behind the end."""
        if len(records) and records.offsets[0] < self.end:
            raise ValueError(f"{self.address.topic}:{self.address.partition}: expected offsets from {self.end} on, got {records.offsets[0]}")
        if len(records):
            own = Records(*self.address, records.offsets, records.timestamps_ms, records.keys, records.values)
            self._runs.append(_Run(own, None))
            self._starts.append(int(records.offsets[0]))
            self.end = int(records.offsets[-1]) + 1

    def last_stable(self) -> int:
        """Offset of the first record whose transaction is open."""
        while self._open and not self._open[0].is_open:
            self._open.popleft()
        return int(self._open[0].records.offsets[0]) if self._open else self.end

    def read(self, begin: int, end: int, limit: int) -> tuple[Records, int]:
        """Committed records in [begin, end), and the offset to go on from."""
        begin, end = max(begin, self.low), min(end, self.last_stable())
        parts: list[Records] = []
        for number in range(max(0, bisect_right(self._starts, begin) - 1), bisect_left(self._starts, end)):
            run = self._runs[number]
            if not run.is_committed:
                continue
            offsets = run.records.offsets
            first, last = offsets.searchsorted((begin, end)).tolist()
            if last - first > limit:
                parts.append(run.records[first : first + limit])
                return joined(self.address, parts), int(offsets[first + limit])
            if first < last:
                parts.append(run.records[first:last])
                limit -= last - first
        return joined(self.address, parts), max(begin, end)

    def delete_before(self, offset: int) -> None:
        """Drop the oldest records, as retention does; never those behind an open transaction."""
        self.low = max(self.low, min(offset, self.last_stable()))
        older = bisect_left(self._starts, self.low)
        last = [(run, int(np.searchsorted(run.records.offsets, self.low))) for run in self._runs[max(0, older - 1) : older]]
        self._keep([*(_Run(run.records[row:], run.transaction) for run, row in last if row < len(run.records)), *self._runs[older:]])

    def cut_off(self, offset: int) -> None:
        """Lose the end of the log from an offset on, as a disk may that did not keep its last writes."""
        kept = [_Run(run.records[: int(np.searchsorted(run.records.offsets, offset))], run.transaction) for run in self._runs]
        self._keep([run for run in kept if len(run.records)])
        self._open = deque(run for run in self._runs if run.is_open)
        self.end = offset

    def compact(self) -> None:
        """Keep the latest committed record of every key; offsets stay."""
        stable = self.last_stable()
        closed = [run for run in self._runs if run.is_committed and run.records.offsets[0] < stable]
        latest = {key: offset for run in closed for key, offset in zip(run.records.keys, run.records.offsets.tolist(), strict=True)}
        kept = []
        for run in self._runs:
            if run.is_committed and run.records.offsets[0] < stable:
                records = run.records
                rows = [row for row, key in enumerate(records.keys) if latest[key] == records.offsets[row]]
                if len(rows) < len(records):
                    keys, values = (taken(column, np.array(rows, np.int64)) for column in (records.keys, records.values))
                    run = _Run(Records(*self.address, records.offsets[rows], records.timestamps_ms[rows], keys, values), run.transaction)
            if len(run.records):
                kept.append(run)
        self._keep(kept)

    def _keep(self, runs: list[_Run]) -> None:
        self._runs, self._starts = runs, [int(run.records.offsets[0]) for run in runs]


def joined(address: TopicPartition, parts: Sequence[Records]) -> Records:
    """Return runs of one partition as one."""
    if not parts:
        return Records(*address, _NOTHING, _NOTHING, [], [])
    if len(parts) == 1:
        return parts[0]
    offsets = np.concatenate([part.offsets for part in parts])
    times = np.concatenate([part.timestamps_ms for part in parts])
    return Records(*address, offsets, times, chained([part.keys for part in parts]), chained([part.values for part in parts]))


@dataclass(slots=True)
class Group:
    """A consumer group of static members with range assignment, lead and co-partitioned topics alike."""

    topics: tuple[str, ...] = ()
    generation: int = 0
    members: dict[str, int] = field(default_factory=dict)
    committed: dict[TopicPartition, int] = field(default_factory=dict)

    def owned(self, instance: str, partitions: dict[str, int]) -> frozenset[TopicPartition]:
        """What range assignment gives a member."""
        members = sorted(self.members)
        place = members.index(instance)
        owned: set[TopicPartition] = set()
        for topic in self.topics:
            share, rest = divmod(partitions[topic], len(members))
            begin = place * share + min(place, rest)
            owned.update(TopicPartition(topic, number) for number in range(begin, begin + share + (place < rest)))
        return frozenset(owned)
