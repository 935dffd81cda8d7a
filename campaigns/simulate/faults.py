"""Faults at the calls that leave a process: before them, after them, instead of them, in the middle of everybody else's work."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from tidemill.shared.log.broker import BrokerUnreachableError
from tidemill.shared.log.errors import TransientError
from tidemill.shared.online_store.store import OnlineStoreUnavailableError

T = TypeVar("T")

POINTS: Mapping[str, type[Exception]] = {
    "broker.members": TransientError,
    "source.consume": BrokerUnreachableError,
    "source.committed": TransientError,
    "reader.read": TransientError,
    "reader.watermarks": TransientError,
    "sink.open": BrokerUnreachableError,
    "sink.begin": TransientError,
    "sink.produce": TransientError,
    "sink.send_offsets": TransientError,
    "sink.commit": TransientError,
    "sink.abort": TransientError,
    "registry.register": TransientError,
    "registry.schema": TransientError,
    "store.write": OnlineStoreUnavailableError,
    "store.standing": OnlineStoreUnavailableError,
    "lake.append": TransientError,
    "artifacts.get": TransientError,
    "trainer.start": OSError,
}
"""Every call that can fail, and what its adapter raises when it does."""

MODES = ("kill before", "kill after", "error before", "error after", "pause")
"""``error after``: the call has done its work, and the caller never learns of it."""


class KilledError(BaseException):
    """The process is gone: nothing of it runs any more, not even its clean-up."""


@dataclass(slots=True)
class Fault:
    """One armed fault: strikes at the call of `point` after `skip` others."""

    point: str
    mode: str
    skip: int
    meanwhile: Callable[[], None]


class FaultPoints:
    """The calls of one process.

    Parameters
    ----------
    struck
        Told of every fault that strikes.
    dies
        Called at the moment of a death.
    """

    def __init__(self, struck: Callable[[Fault], None], dies: Callable[[], None] = lambda: None) -> None:
        self._struck, self._dies = struck, dies
        self._armed: list[Fault] = []
        self.dead = False

    def arm(self, fault: Fault) -> None:
        """Have a fault strike later."""
        self._armed.append(fault)

    def disarm(self) -> None:
        """Forget what has not struck."""
        self._armed.clear()

    def call(self, point: str, action: Callable[[], T]) -> T:
        """Do a call, or what a fault makes of it."""
        if self.dead:
            raise KilledError
        fault = self._due(point)
        if fault is None:
            return action()
        self._struck(fault)
        if fault.mode == "pause":
            fault.meanwhile()
            return action()
        if fault.mode == "kill before":
            self._die()
        if fault.mode == "error before":
            raise POINTS[point](f"simulated: {point} was not done")
        action()
        if fault.mode == "kill after":
            self._die()
        raise POINTS[point](f"simulated: {point} was done, the answer is lost")

    def _die(self) -> NoReturn:
        self.dead = True
        self._dies()
        raise KilledError

    def _due(self, point: str) -> Fault | None:
        for fault in self._armed:
            if fault.point == point:
                if fault.skip == 0:
                    self._armed.remove(fault)
                    return fault
                fault.skip -= 1
                return None
        return None


class Port:
    """Any port of the system, with some of its methods turned into fault points.

    Parameters
    ----------
    target
        What does the work.
    name
        The port's name in `POINTS`.
    """

    def __init__(self, target: Any, name: str, points: FaultPoints) -> None:  # any port
        self._target, self._name, self._points = target, name, points

    def __getattr__(self, method: str) -> Any:
        attribute = getattr(self._target, method)
        point = f"{self._name}.{method}"
        if point not in POINTS:
            return attribute

        def call(*args: Any, **options: Any) -> Any:
            return self._points.call(point, lambda: _whole(attribute(*args, **options)))

        # Found at the next look without this method.
        self.__dict__[method] = call
        return call


def _whole(result: Any) -> Any:
    """A read that is cut is cut before its first record or after its last: the caller gets all of it at once."""
    return iter(list(result)) if isinstance(result, Iterator) else result


class FaultyBroker:
    """The broker as one process sees it.

    Nobody waits in a simulation: `consume` returns at once. What is read must be committed, which is checked at every call.
    """

    def __init__(self, broker: Any, points: FaultPoints) -> None:  # MemoryBroker
        self._broker, self._points = broker, points

    def source(self, group: str, instance: str) -> Any:
        """Make a member of a group."""
        return Port(_Impatient(self._broker.source(group, instance)), "source", self._points)

    def reader(self) -> Any:
        """Make a reader."""
        return Port(self._broker.reader(), "reader", self._points)

    def sink(self) -> Any:
        """Make a publisher."""
        return self._broker.sink()

    def transactional_sink(self, transactional_id: str) -> Any:
        """Make a transactional producer."""
        return Port(self._broker.transactional_sink(transactional_id), "sink", self._points)

    def partitions(self, topic: str) -> int:
        """Number of partitions."""
        return int(self._broker.partitions(topic))

    def max_message_bytes(self, topic: str) -> int:
        """Greatest record of a topic."""
        return int(self._broker.max_message_bytes(topic))

    def topic_ids(self, topics: Sequence[str]) -> Any:
        """Which topics these names stand for."""
        return self._broker.topic_ids(topics)

    def partition_counts(self, topics: Sequence[str]) -> Any:
        """How many partitions these topics have."""
        return self._broker.partition_counts(topics)

    def members(self, group: str) -> Any:
        """Return who is in a group."""
        return self._points.call("broker.members", lambda: self._broker.members(group))

    def create_topics(self, topics: Sequence[Any]) -> None:
        """Create topics."""
        self._broker.create_topics(topics)


class _Impatient:
    """A source that does not wait."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def consume(self, max_records: int, timeout_s: float, linger_s: float = 0.0) -> Any:
        return self._source.consume(max_records, 0.0, 0.0)
