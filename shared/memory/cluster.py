"""What a broker in memory keeps, with Kafka's transactional semantics."""

import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import Future
from functools import lru_cache

import numpy as np

from tidemill.shared.log.broker import FencedError, RecordRefusedError, TopicAwayError, TopicSpec
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import Emission, Records, TopicPartition
from tidemill.shared.memory.log import ABORTED, COMMITTED, OPEN, Group, PartitionLog, Transaction

_DEFAULT_BYTES = 1_048_588
STABLE_TIMEOUT_S = 30.0
"""How long a reader waits for an open transaction to end, by default."""


class MemoryCluster:
    """Topics, groups and transactions in memory, which the clients of `MemoryBroker` share. Safe for threads.

    Time-outs do not pass by themselves: `expire_transactions` and `expire_member` say that a session ended.

    Parameters
    ----------
    clock_ms
        Stamps records that bring no timestamp.
    stable_timeout_s
        How long a reader waits for an open transaction to end; 0 where nobody else could end it meanwhile (one thread).
    hands_on
        Whether readers get what records were encoded from, and need not decode them (`Emission.columns`); Kafka gives bytes alone.
    """

    def __init__(
        self, clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000, stable_timeout_s: float = STABLE_TIMEOUT_S, *, hands_on: bool = False
    ) -> None:
        self.clock_ms = clock_ms
        self.stable_timeout_s = stable_timeout_s
        self._hands_on = hands_on
        self.changed = threading.Condition(threading.RLock())
        self._topics: dict[str, list[PartitionLog]] = {}
        self._limits: dict[str, int] = {}
        self._made: dict[str, int] = {}
        self._groups: dict[str, Group] = {}
        self._epochs: dict[str, int] = {}
        self._transactions: dict[str, Transaction] = {}

    def create_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Create the topics that do not exist."""
        with self.changed:
            for spec in topics:
                count = self.partitions(spec.name)
                if count not in (0, spec.partitions):
                    raise ValueError(f"topic {spec.name}: expected {spec.partitions} partitions, found {count}")
                if not count:
                    self._limits[spec.name] = int(spec.config.get("max.message.bytes", _DEFAULT_BYTES))
                    self._made[spec.name] = self._made.get(spec.name, 0) + 1
                    self._topics[spec.name] = [PartitionLog(TopicPartition(spec.name, number)) for number in range(spec.partitions)]

    def delete_topic(self, name: str) -> None:
        """Delete a topic with its records and the offsets that groups have there, as an administrator does."""
        with self.changed:
            del self._topics[name], self._limits[name]
            for group in self._groups.values():
                group.committed = {place: offset for place, offset in group.committed.items() if place.topic != name}
            self.changed.notify_all()

    def add_partitions(self, name: str, count: int) -> None:
        """Give a topic more partitions, as an administrator does; groups that read it get them."""
        with self.changed:
            logs = self._topics[name]
            logs += [PartitionLog(TopicPartition(name, number)) for number in range(len(logs), count)]
            for group in self._groups.values():
                group.generation += name in group.topics
            self.changed.notify_all()

    def partitions(self, topic: str) -> int:
        """Number of partitions, 0 when there is no such topic."""
        return len(self._topics.get(topic, ()))

    def topics(self) -> list[str]:
        """Names of all topics."""
        return list(self._topics)

    def max_message_bytes(self, topic: str) -> int:
        """Greatest record the topic takes; Kafka's default unless it was created with another."""
        if topic not in self._limits:
            raise ValueError(f"expected an existing topic, there is no {topic}")
        return self._limits[topic]

    def topic_ids(self, topics: Sequence[str]) -> Future[Mapping[str, str]]:
        """Ids of the topics there are: from name and count, so that two runs have the same."""
        answer: Future[Mapping[str, str]] = Future()
        answer.set_result({name: _topic_id(name, self._made[name]) for name in topics if name in self._topics})
        return answer

    def partition_counts(self, topics: Sequence[str]) -> Future[Mapping[str, int]]:
        """Partitions of the topics there are."""
        answer: Future[Mapping[str, int]] = Future()
        answer.set_result({name: len(self._topics[name]) for name in topics if name in self._topics})
        return answer

    def members(self, group: str) -> Mapping[str, Set[TopicPartition]]:
        """Return who is in a group."""
        with self.changed:
            return {instance: self.owned(group, instance) for instance in self.group(group).members}

    def expire_transactions(self, transactional_id: str | None = None) -> None:
        """Abort what dead producers (or the one of this id) left open, as Kafka does after the transaction time-out."""
        with self.changed:
            for name in [name for name, transaction in self._transactions.items() if transaction.state == OPEN]:
                if transactional_id in (None, name):
                    self.fence(name)

    def expire_member(self, group: str, instance: str) -> None:
        """End the session of a dead member, which makes the group rebalance."""
        with self.changed:
            state = self.group(group)
            state.members.pop(instance, None)
            state.generation += 1
            self.changed.notify_all()

    def leave(self, group: str, instance: str, incarnation: int) -> None:
        """Take a member out of its group, unless it has a successor of its name."""
        with self.changed:
            state = self.group(group)
            if state.members.get(instance) == incarnation:
                self.expire_member(group, instance)

    def group(self, name: str) -> Group:
        """State of a group."""
        return self._groups.setdefault(name, Group())

    def join(self, group: str, instance: str, topics: Sequence[str]) -> int:
        """Add a member, or replace the one of the same name; returns its incarnation."""
        with self.changed:
            state = self.group(group)
            missing = [topic for topic in topics if topic not in self._topics]
            if missing:
                raise ValueError(f"expected existing topics, there is no {', '.join(missing)}")
            state.topics = tuple(topics)
            state.members[instance] = state.members.get(instance, 0) + 1
            state.generation += 1
            self.changed.notify_all()
            return state.members[instance]

    def owned(self, group: str, instance: str) -> frozenset[TopicPartition]:
        """Partitions the group gives a member now."""
        return self.group(group).owned(instance, {topic: len(logs) for topic, logs in self._topics.items()})

    def log(self, partition: TopicPartition) -> PartitionLog:
        """One partition; TopicAwayError when there is none."""
        logs = self._topics.get(partition.topic, [])
        if partition.partition >= len(logs):
            raise TopicAwayError(f"expected an existing partition, there is no {partition.topic}:{partition.partition}")
        return logs[partition.partition]

    def logs(self) -> list[PartitionLog]:
        """All partitions."""
        return [log for logs in self._topics.values() for log in logs]

    def delete_records(self, partition: TopicPartition, before: int) -> None:
        """Drop the records below an offset, as retention does or an administrator."""
        with self.changed:
            self.log(partition).delete_before(before)

    def compact(self, topic: str) -> None:
        """Keep the latest record of every key of a topic."""
        with self.changed:
            for log in self._topics[topic]:
                log.compact()

    def append(self, emission: Emission, transaction: Transaction | None) -> None:
        """Write records."""
        with self.changed:
            log, n = self.log(TopicPartition(emission.topic, emission.partition)), len(emission)
            times = emission.timestamps_ms if emission.timestamps_ms is not None else np.full(n, self.clock_ms(), np.int64)
            limit = self._limits[emission.topic]
            if limit != _DEFAULT_BYTES:
                largest = max((len(key or b"") + len(value or b"") for key, value in zip(emission.keys, emission.values, strict=True)), default=0)
                if largest > limit:
                    raise RecordRefusedError(f"{emission.topic}: expected records of at most {limit} bytes, found one of {largest}")
            log.append(times, emission.keys, emission.values, transaction, emission.columns if self._hands_on else None)
            if transaction is not None:
                transaction.partitions.add(log.address)
            self.changed.notify_all()

    def copy(self, records: Records) -> None:
        """Write records of another log at the offsets that they have there."""
        with self.changed:
            self.log(TopicPartition(records.topic, records.partition)).copy(records)
            self.changed.notify_all()

    def finish(self, transaction: Transaction, state: str) -> None:
        """Commit or abort: decide the state, write the markers, take over the offsets."""
        with self.changed:
            transaction.state = state
            for partition in sorted(transaction.partitions):
                self.log(partition).mark()
            if state == COMMITTED:
                for (group, partition), offset in transaction.offsets.items():
                    self.group(group).committed[partition] = offset
            self.changed.notify_all()

    def fence(self, transactional_id: str) -> int:
        """Shut out the present holder of a transactional id; returns the new epoch."""
        with self.changed:
            left = self._transactions.pop(transactional_id, None)
            if left is not None and left.state == OPEN:
                self.finish(left, ABORTED)
            self._epochs[transactional_id] = self._epochs.get(transactional_id, 0) + 1
            return self._epochs[transactional_id]

    def begin(self, transactional_id: str, epoch: int) -> Transaction:
        """Start a transaction."""
        with self.changed:
            self.check_epoch(transactional_id, epoch)
            self._transactions[transactional_id] = Transaction()
            return self._transactions[transactional_id]

    def check_epoch(self, transactional_id: str, epoch: int) -> None:
        """Refuse a producer that was fenced."""
        if self._epochs.get(transactional_id) != epoch:
            raise FencedError(f"transactional id {transactional_id}: expected epoch {self._epochs.get(transactional_id)}, got {epoch}")

    def committed(self, group: str, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Committed offsets, once no open transaction holds newer ones."""
        with self.changed:

            def stable() -> bool:
                held = {key for transaction in self._transactions.values() if transaction.state == OPEN for key in transaction.offsets}
                return not any((group, partition) in held for partition in partitions)

            if not self.changed.wait_for(stable, self.stable_timeout_s):
                raise TransientError(f"offsets of group {group} are held by an open transaction")
            known = self.group(group).committed
            return {partition: known[partition] for partition in partitions if partition in known}


@lru_cache(maxsize=1_024)
def _topic_id(name: str, made: int) -> str:
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{name}:{made}").hex
