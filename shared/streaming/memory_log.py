"""The log behind `MemoryBroker`: partitions, transactions with markers and a last stable offset, groups with generations."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from shared.streaming.records import Records, TopicPartition

OPEN, COMMITTED, ABORTED = "open", "committed", "aborted"


@dataclass(slots=True)
class Transaction:
    """One transaction of one producer: its fate decides what its records are worth."""

    state: str = OPEN
    partitions: set[TopicPartition] = field(default_factory=set)
    offsets: dict[tuple[str, TopicPartition], int] = field(default_factory=dict)


@dataclass(slots=True)
class Entry:
    """A record, or (with `marker`) the end of a transaction or what compaction has removed, which takes an offset but is never read."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    transaction: Transaction | None
    marker: bool = False


@dataclass(slots=True)
class PartitionLog:
    """One partition."""

    address: TopicPartition
    entries: list[Entry] = field(default_factory=list)
    low: int = 0
    stable: int = 0

    @property
    def end(self) -> int:
        """Offset of the next record."""
        return self.low + len(self.entries)

    def append(self, timestamp_ms: int, key: bytes | None, value: bytes | None, transaction: Transaction | None, marker: bool = False) -> None:
        """Write at the end."""
        self.entries.append(Entry(self.end, timestamp_ms, key, value, transaction, marker))

    def last_stable(self) -> int:
        """Offset of the first record whose transaction is open."""
        while self.stable < self.end:
            transaction = self.entries[max(self.stable, self.low) - self.low].transaction
            if transaction is not None and transaction.state == OPEN:
                break
            self.stable += 1
        return self.stable

    def read(self, begin: int, end: int, limit: int) -> tuple[Records, int]:
        """Committed records in [begin, end), and the offset to go on from."""
        begin = max(begin, self.low)
        chosen: list[Entry] = []
        for position in range(begin, min(end, self.last_stable())):
            if len(chosen) == limit:
                return self._records(chosen), position
            entry = self.entries[position - self.low]
            if not entry.marker and (entry.transaction is None or entry.transaction.state == COMMITTED):
                chosen.append(entry)
        return self._records(chosen), max(begin, min(end, self.last_stable()))

    def delete_before(self, offset: int) -> None:
        """Drop the oldest records, as retention does; never those behind an open transaction."""
        gone = max(0, min(offset, self.last_stable()) - self.low)
        del self.entries[:gone]
        self.low += gone

    def compact(self) -> None:
        """Keep the latest committed record of every key; offsets stay."""
        latest: dict[bytes | None, int] = {}
        closed = self.entries[: self.last_stable() - self.low]
        committed = [entry for entry in closed if not entry.marker and (entry.transaction is None or entry.transaction.state == COMMITTED)]
        for entry in committed:
            latest[entry.key] = entry.offset
        for entry in committed:
            if latest[entry.key] != entry.offset:
                entry.marker, entry.value = True, None

    def _records(self, entries: Sequence[Entry]) -> Records:
        return Records(
            self.address.topic,
            self.address.partition,
            np.array([entry.offset for entry in entries], np.int64),
            np.array([entry.timestamp_ms for entry in entries], np.int64),
            [entry.key for entry in entries],
            [entry.value for entry in entries],
        )


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
