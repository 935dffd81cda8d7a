"""What the runner needs from a log: a port with two adapters, Kafka and memory, held to one contract suite."""

from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import Emission, Records, TopicPartition


class BrokerUnreachableError(RuntimeError):
    """Nobody answered at the broker's address within the deadline (crash: a supervisor restarts)."""


class FencedError(RuntimeError):
    """Another instance with the same id, or a newer group generation, has taken over (crash)."""


class OffsetLostError(RuntimeError):
    """A position is outside of the log: retention deleted records that were not processed yet (crash)."""


class TopicRemadeError(OffsetLostError):
    """A topic is not the one that was read so far: somebody has deleted it and made one of the same name (crash)."""


class RecordRefusedError(RuntimeError):
    """The broker does not take a record for what it is (its size, its form): whatever was it made of is looked for (crash)."""


class TopicAwayError(TransientError):
    """There is no such topic or partition, or none any more: whoever needs it waits until somebody makes it (retry)."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic to create: `config` is Kafka's (``cleanup.policy``, ``retention.ms``, ...)."""

    name: str
    partitions: int = 1
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the group gave this member; every rebalance has a new epoch, and everything held from an older one is void."""

    epoch: int = 0
    partitions: frozenset[TopicPartition] = frozenset()


class Source(Protocol):
    """A member of a consumer group that reads committed records only.

    The group decides which partitions a member *may* read; it reads what `assign` says, which may hold others besides
    (broadcast inputs). After a rebalance nothing is read until `assign` is called again.
    """

    @property
    def assignment(self) -> Assignment:
        """Latest word of the group; moves on during `consume` only."""
        ...

    @property
    def caught_up(self) -> Set[TopicPartition]:
        """Assigned partitions whose end was reached, with nothing read since."""
        ...

    def subscribe(self, topics: Sequence[str]) -> None:
        """Join the group."""
        ...

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read exactly these partitions, from these offsets on."""
        ...

    def consume(self, max_records: int, timeout_s: float, linger_s: float = 0.0) -> list[Records]:
        """Wait for up to `timeout_s` for a record (or the end of a partition), then `linger_s` for more; serves the group protocol.

        Raises
        ------
        OffsetLostError
            A position is outside of the log.
        BrokerUnreachableError
            The broker has not answered for long.
        """
        ...

    def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Offsets the group has committed, waiting for those of open transactions; partitions without one are left out."""
        ...

    def membership(self) -> object:
        """Identity and generation in the group, for `TransactionalSink.send_offsets`."""
        ...

    def leave(self) -> None:
        """Tell the group that this member goes, so that others have its partitions at once; `close` follows."""
        ...

    def close(self) -> None:
        """Stop reading (a static member that has not left stays in the group until its session ends)."""
        ...


class Reader(Protocol):
    """Reads stretches of the log outside of any group, committed records only."""

    def watermarks(self, partition: TopicPartition) -> tuple[int, int]:
        """First offset and end of the log, records of open transactions included.

        Raises
        ------
        TransientError
            There is no such partition: TopicAwayError where the reader has known it, else as if its leader were being elected.
        """
        ...

    def stable_end(self, partition: TopicPartition) -> int:
        """Offset up to which no transaction is open, so that a read up to it waits for nobody.

        Raises
        ------
        TransientError
            As `watermarks`.
        """
        ...

    def read(self, partition: TopicPartition, begin: int, end: int | None = None) -> Iterator[Records]:
        """Records from `begin` (or the first there is) up to `end`, by default the end at the time of the call.

        Waits for open transactions to end, as they may have been somebody's last words. A second stretch may be read while this one is.

        Raises
        ------
        OffsetLostError
            `begin` is beyond the end of the log.
        """
        ...

    def close(self) -> None:
        """Give the connection back."""
        ...


class Sink(Protocol):
    """Publishes outside of transactions (users, gateway, replays)."""

    def publish(self, topic: str, key: bytes | None, value: bytes | None, timestamp_ms: int | None = None, partition: int | None = None) -> None:
        """Queue one record; without a partition murmur2 of the key decides, as in Java."""
        ...

    def publish_run(self, run: Emission) -> None:
        """Queue many records for one partition."""
        ...

    def flush(self, timeout_s: float = 30.0) -> None:
        """Wait until all records are acknowledged; raises for those that are not."""
        ...

    def close(self) -> None:
        """Flush and stop."""
        ...


class TransactionalSink(Protocol):
    """Outputs, offsets and progress of one instance: all of a transaction or nothing of it."""

    def open(self) -> None:
        """Fence predecessors of the same id and abort what they left open."""
        ...

    def begin(self) -> None:
        """Start a transaction."""
        ...

    def produce(self, emission: Emission) -> None:
        """Add records."""
        ...

    def send_offsets(self, offsets: Mapping[TopicPartition, int], membership: object) -> None:
        """Add the group's offsets; an old generation is refused, here or by `commit` (TransientError: the task moved away)."""
        ...

    def commit(self) -> Mapping[TopicPartition, int]:
        """Make everything visible; returns, of every partition written to, an offset behind what was written there.

        Where a first offset was asked (`Emission.first_offset`) it is the end of the log.

        Raises
        ------
        TransientError
            The transaction has to be aborted, nothing of it will be seen; also when a record did not get the offset it was to have.
            Or it was committed without a clear answer: what the log says then counts, so the caller restores from it.
        FencedError
            A successor has taken over.
        """
        ...

    def abort(self) -> None:
        """Drop the open transaction."""
        ...

    def close(self) -> None:
        """Stop; an open transaction is aborted."""
        ...


class Broker(Protocol):
    """A log with consumer groups and transactions."""

    def create_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Create the topics that do not exist; ValueError when one exists with another number of partitions."""
        ...

    def partitions(self, topic: str) -> int:
        """Number of partitions, 0 when there is no such topic."""
        ...

    def max_message_bytes(self, topic: str) -> int:
        """Greatest record the topic takes, keys and headers included (``max.message.bytes``); ValueError when there is no such topic."""
        ...

    def topic_ids(self, topics: Sequence[str]) -> "Future[Mapping[str, str]]":
        """Ask which topics these names stand for, without waiting: a topic keeps its id for life, one made anew under its name has another.

        Topics that do not exist are left out, and all of a broker older than ids (Kafka 2.8). The future raises TransientError when the broker
        does not answer.
        """
        ...

    def partition_counts(self, topics: Sequence[str]) -> "Future[Mapping[str, int]]":
        """Ask how many partitions topics have, without waiting; those that do not exist are left out.

        The future raises TransientError when the broker does not answer.
        """
        ...

    def members(self, group: str) -> Mapping[str, Set[TopicPartition]]:
        """Return who is in a group, by instance, with the partitions each was assigned last (nothing while the group rebalances)."""
        ...

    def source(self, group: str, instance: str) -> Source:
        """Make a member of a group, static by `instance`."""
        ...

    def reader(self) -> Reader:
        """Make a reader."""
        ...

    def sink(self) -> Sink:
        """Make a publisher."""
        ...

    def transactional_sink(self, transactional_id: str) -> TransactionalSink:
        """Make a transactional producer."""
        ...
