"""Source, reader and sinks of `MemoryBroker`."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from tidemill.shared.log.broker import Assignment, FencedError
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.lost_offset import offset_lost
from tidemill.shared.log.partitioning import murmur2_partition
from tidemill.shared.log.records import Emission, Records, TopicPartition
from tidemill.shared.memory.cluster import MemoryCluster
from tidemill.shared.memory.log import ABORTED, COMMITTED, OPEN, Transaction


@dataclass(frozen=True, slots=True)
class Membership:
    """Who a source is, and the generation it knows."""

    group: str
    instance: str
    incarnation: int
    generation: int


class MemorySource:
    """Source of `MemoryBroker`."""

    def __init__(self, broker: MemoryCluster, group: str, instance: str) -> None:
        self._broker = broker
        self.group = group
        self._instance = instance
        self._incarnation = 0
        self._generation = 0
        self._assignment = Assignment()
        self._positions: dict[TopicPartition, int] = {}

    @property
    def assignment(self) -> Assignment:
        """Latest word of the group."""
        return self._assignment

    @property
    def caught_up(self) -> Set[TopicPartition]:
        """Assigned partitions read to their end."""
        with self._broker.changed:
            return {partition for partition, position in self._positions.items() if position >= self._broker.log(partition).last_stable()}

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        """Next offset to read, by partition."""
        return self._positions

    @property
    def has_more(self) -> bool:
        """Whether there is something to read, or the group has something to say."""
        return self._generation_moved() or self._something_to_read()

    def subscribe(self, topics: Sequence[str]) -> None:
        """Join the group."""
        self._incarnation = self._broker.join(self.group, self._instance, topics)

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read exactly these partitions."""
        self._positions = dict(positions)

    def consume(self, max_records: int, timeout_s: float, linger_s: float = 0.0) -> list[Records]:
        """Take what is there, waiting for it."""
        with self._broker.changed:
            self._follow_group()
            # Where one thread does everything, nobody writes while it waits.
            wait_s = min(timeout_s, self._broker.stable_timeout_s)
            if wait_s > 0:
                self._broker.changed.wait_for(lambda: self.has_more, wait_s)
                self._follow_group()
            taken: list[Records] = []
            for partition, position in self._positions.items():
                log = self._broker.log(partition)
                if not log.low <= position <= log.end:
                    raise offset_lost(partition, f"group {self.group}", position, log.low, log.end)
                if position == log.last_stable():
                    continue
                records, self._positions[partition] = log.read(position, log.end, max_records)
                if len(records):
                    taken.append(records)
                    max_records -= len(records)
                if max_records == 0:
                    break
            self._take_turns(taken)
            return taken

    def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Committed offsets."""
        return self._broker.committed(self.group, partitions)

    def membership(self) -> object:
        """Identity and generation."""
        return Membership(self.group, self._instance, self._incarnation, self._generation)

    def leave(self) -> None:
        """Give the partitions to the other members."""
        self._broker.leave(self.group, self._instance, self._incarnation)

    def close(self) -> None:
        """Stop reading; a member that has not left stays until `expire_member`."""
        self._positions = {}

    def _take_turns(self, taken: Sequence[Records]) -> None:
        """Let what was read wait behind what was not, so that no busy partition starves another."""
        for records in taken:
            place = TopicPartition(records.topic, records.partition)
            self._positions[place] = self._positions.pop(place)

    def _generation_moved(self) -> bool:
        return self._incarnation > 0 and self._broker.group(self.group).generation != self._generation

    def _something_to_read(self) -> bool:
        return any(position < self._broker.log(partition).last_stable() for partition, position in self._positions.items())

    def _follow_group(self) -> None:
        if not self._generation_moved():
            return
        group = self._broker.group(self.group)
        if group.members.get(self._instance) != self._incarnation:
            raise FencedError(f"group {self.group}: another {self._instance} has joined, or this one's session ended")
        self._generation = group.generation
        self._positions = {}
        self._assignment = Assignment(self._assignment.epoch + 1, self._broker.owned(self.group, self._instance))


class MemoryReader:
    """Reader of `MemoryBroker`."""

    def __init__(self, broker: MemoryCluster) -> None:
        self._broker = broker

    def watermarks(self, partition: TopicPartition) -> tuple[int, int]:
        """First offset and end of the log."""
        log = self._broker.log(partition)
        return log.low, log.end

    def stable_end(self, partition: TopicPartition) -> int:
        """Offset up to which no transaction is open."""
        with self._broker.changed:
            return self._broker.log(partition).last_stable()

    def read(self, partition: TopicPartition, begin: int, end: int | None = None) -> Iterator[Records]:
        """Committed records of a stretch."""
        log = self._broker.log(partition)
        with self._broker.changed:
            last = log.end if end is None else end
            if begin > log.end or last > log.end:
                raise offset_lost(partition, "a reader", max(begin, last), log.low, log.end)
            if not self._broker.changed.wait_for(lambda: log.last_stable() >= last, self._broker.stable_timeout_s):
                raise TransientError(f"{partition.topic}:{partition.partition}: an open transaction holds offset {log.last_stable()}")
            records, _ = log.read(begin, last, log.end - log.low)
        if len(records):
            yield records

    def close(self) -> None:
        """Nothing to give back."""


class MemorySink:
    """Sink of `MemoryBroker`."""

    def __init__(self, broker: MemoryCluster) -> None:
        self._broker = broker

    def publish(self, topic: str, key: bytes | None, value: bytes | None, timestamp_ms: int | None = None, partition: int | None = None) -> None:
        """Write one record."""
        count = self._broker.partitions(topic)
        if not count:
            raise ValueError(f"expected an existing topic, there is no {topic}")
        chosen = partition if partition is not None else (murmur2_partition(key, count) if key is not None else 0)
        times = None if timestamp_ms is None else np.array([timestamp_ms], np.int64)
        self._broker.append(Emission(topic, chosen, [key], [value], times), None)

    def publish_run(self, run: Emission) -> None:
        """Write many records."""
        self._broker.append(run, None)

    def flush(self, timeout_s: float = 30.0) -> None:
        """All is written already."""

    def close(self) -> None:
        """Nothing to give back."""


class MemoryTransactionalSink:
    """Transactional sink of `MemoryBroker`."""

    def __init__(self, broker: MemoryCluster, transactional_id: str) -> None:
        self._broker = broker
        self._id = transactional_id
        self._epoch = 0
        self._transaction: Transaction | None = None
        self._placed: set[TopicPartition] = set()
        self._misplaced: list[str] = []

    def open(self) -> None:
        """Fence predecessors."""
        self._epoch = self._broker.fence(self._id)

    def begin(self) -> None:
        """Start a transaction."""
        if self._transaction is not None:
            raise RuntimeError(f"transactional id {self._id}: a transaction is open already")
        self._transaction = self._broker.begin(self._id, self._epoch)
        self._placed, self._misplaced = set(), []

    def produce(self, emission: Emission) -> None:
        """Add records."""
        with self._broker.changed:
            place = TopicPartition(emission.topic, emission.partition)
            if emission.first_offset is not None:
                end = self._broker.log(place).end
                self._misplaced += [] if end == emission.first_offset else [f"{place.topic}:{place.partition}: {emission.first_offset}, found {end}"]
            self._placed.add(place)
            self._broker.append(emission, self._current())

    def send_offsets(self, offsets: Mapping[TopicPartition, int], membership: object) -> None:
        """Add the group's offsets."""
        if not isinstance(membership, Membership):
            raise TypeError(f"expected the membership of a MemorySource, got {membership!r}")
        transaction = self._current()
        with self._broker.changed:
            group = self._broker.group(membership.group)
            if group.generation != membership.generation or group.members.get(membership.instance) != membership.incarnation:
                raise TransientError(f"group {membership.group} rebalanced: expected generation {group.generation}, got {membership.generation}")
            transaction.offsets.update({(membership.group, partition): offset for partition, offset in offsets.items()})

    def commit(self) -> Mapping[TopicPartition, int]:
        """Make everything visible."""
        transaction = self._current()
        if self._misplaced:
            raise TransientError(f"somebody else has written: expected the offset {self._misplaced[0]}")
        with self._broker.changed:
            self._broker.finish(transaction, COMMITTED)
            self._transaction = None
            return {place: self._broker.log(place).end for place in self._placed}

    def abort(self) -> None:
        """Drop the open transaction."""
        if self._transaction is not None and self._transaction.state == OPEN:
            self._broker.finish(self._transaction, ABORTED)
        self._transaction = None

    def close(self) -> None:
        """Abort and stop."""
        self.abort()

    def _current(self) -> Transaction:
        self._broker.check_epoch(self._id, self._epoch)
        if self._transaction is None:
            raise RuntimeError(f"transactional id {self._id}: expected an open transaction, call begin first")
        return self._transaction
