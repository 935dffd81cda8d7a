"""A broker lent to a child process: it reads through its parent, and cannot write."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import Any, NoReturn

from tidemill.shared.log.broker import Assignment, Broker, Reader, Source, TopicSpec
from tidemill.shared.log.records import Records, TopicPartition


class WritesNothingError(RuntimeError):
    """A child process tried to write: it is there to see what a task survives, and nothing it does may be seen."""


class LentBroker:
    """The child's end: every question goes to the parent and waits for its answer.

    Without a client of its own the child needs neither address nor password, joins no group, and has nothing to write with.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def tell(self, *message: Any) -> None:
        """Say something that has no answer."""
        self._connection.send(message)

    def hear(self) -> Any:
        """Wait for what the parent wants next; EOFError once it wants nothing any more."""
        return self._connection.recv()

    def hear_handle(self) -> int:
        """Wait for a file descriptor."""
        return recv_handle(self._connection)

    def move(self, connection: Connection) -> None:
        """Ask over another connection from now on: this process was forked from one that keeps the other."""
        self._connection.close()
        self._connection = connection

    def ask(self, what: str, *about: Any) -> Any:
        """Ask the parent."""
        self._connection.send(("ask", what, about))
        return self._connection.recv()

    def create_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Refuse."""
        _refuse("create topics")

    def partitions(self, topic: str) -> int:
        """Number of partitions."""
        return int(self.ask("partitions", topic))

    def max_message_bytes(self, topic: str) -> int:
        """Greatest record the topic takes."""
        return int(self.ask("max_message_bytes", topic))

    def topic_ids(self, topics: Sequence[str]) -> "Future[Mapping[str, str]]":
        """Nothing: the parent holds them against its progress before it has a child try anything."""
        answer: Future[Mapping[str, str]] = Future()
        answer.set_result({})
        return answer

    def partition_counts(self, topics: Sequence[str]) -> "Future[Mapping[str, int]]":
        """Nothing: the parent looks after them."""
        answer: Future[Mapping[str, int]] = Future()
        answer.set_result({})
        return answer

    def members(self, group: str) -> Mapping[str, Set[TopicPartition]]:
        """Refuse: a child takes nothing over."""
        _refuse("look who is in a group")

    def source(self, group: str, instance: str) -> "LentSource":
        """Make a source that knows what the group has committed."""
        return LentSource(self)

    def reader(self) -> "LentReader":
        """Make a reader."""
        return LentReader(self)

    def sink(self) -> "ClosedSink":
        """Make a publisher that refuses."""
        return ClosedSink()

    def transactional_sink(self, transactional_id: str) -> "ClosedSink":
        """Make a producer that refuses."""
        return ClosedSink()


class LentReader:
    """Reader of `LentBroker`."""

    def __init__(self, broker: LentBroker) -> None:
        self._broker = broker

    def watermarks(self, partition: TopicPartition) -> tuple[int, int]:
        """First offset and end of the log."""
        low, end = self._broker.ask("watermarks", partition)
        return int(low), int(end)

    def stable_end(self, partition: TopicPartition) -> int:
        """Offset up to which no transaction is open."""
        return int(self._broker.ask("stable_end", partition))

    def read(self, partition: TopicPartition, begin: int, end: int | None = None) -> Iterator[Records]:
        """Committed records of a stretch, one run with each question."""
        number = self._broker.ask("read", partition, begin, end)
        while (records := self._broker.ask("next", number)) is not None:
            yield records

    def close(self) -> None:
        """Nothing to give back."""


class LentSource:
    """Source of `LentBroker`: it reads nothing and belongs to no group."""

    assignment = Assignment()
    caught_up: Set[TopicPartition] = frozenset()

    def __init__(self, broker: LentBroker) -> None:
        self._broker = broker

    def subscribe(self, topics: Sequence[str]) -> None:
        """Refuse."""
        _refuse("join a group")

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read nothing."""

    def consume(self, max_records: int, timeout_s: float, linger_s: float = 0.0) -> list[Records]:
        """Give nothing."""
        return []

    def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Offsets that the parent's group has committed."""
        offsets: dict[TopicPartition, int] = self._broker.ask("committed", list(partitions))
        return offsets

    def membership(self) -> object:
        """Refuse."""
        return _refuse("name a membership")

    def leave(self) -> None:
        """Nothing to leave."""

    def close(self) -> None:
        """Nothing to give back."""


class ClosedSink:
    """A producer of `LentBroker`: whatever is asked of it is refused."""

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*_given: object, **_named: object) -> NoReturn:
            _refuse(name)

        return refuse


class Lender:
    """The parent's end: answers a child's questions from its own clients."""

    def __init__(self, broker: Broker, reader: Reader, source: Source) -> None:
        self._broker, self._reader, self._source = broker, reader, source
        self._readings: dict[int, Iterator[Records]] = {}
        self._numbers = count()

    def answer(self, what: str, about: Sequence[Any]) -> Any:
        """Answer one question; what a client raises is raised here."""
        match what:
            case "read":
                number = next(self._numbers)
                self._readings[number] = iter(self._reader.read(*about))
                return number
            case "next":
                records = next(self._readings[about[0]], None)
                if records is None:
                    del self._readings[about[0]]
                return records
            case "watermarks":
                return self._reader.watermarks(*about)
            case "stable_end":
                return self._reader.stable_end(*about)
            case "committed":
                return self._source.committed(*about)
            case "partitions":
                return self._broker.partitions(*about)
            case "max_message_bytes":
                return self._broker.max_message_bytes(*about)
        raise ValueError(f"expected a question of LentBroker, got {what}")


def _refuse(what: str) -> NoReturn:
    raise WritesNothingError(f"a child process that only tries records was asked to {what}")
