"""`MemoryBroker`: the broker port within one process, with Kafka's transactional semantics, for tests and backtests."""

import time
import weakref
from collections.abc import Callable

from tidemill.shared.log.records import TopicPartition
from tidemill.shared.memory.clients import MemoryReader, MemorySink, MemorySource, MemoryTransactionalSink
from tidemill.shared.memory.cluster import STABLE_TIMEOUT_S, MemoryCluster


class MemoryBroker(MemoryCluster):
    """A log in memory, and who reads and writes it.

    Parameters
    ----------
    clock_ms, stable_timeout_s, hands_on
        As `MemoryCluster` takes them.
    """

    def __init__(
        self, clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000, stable_timeout_s: float = STABLE_TIMEOUT_S, *, hands_on: bool = False
    ) -> None:
        super().__init__(clock_ms, stable_timeout_s, hands_on=hands_on)
        self._sources: weakref.WeakSet[MemorySource] = weakref.WeakSet()

    def source(self, group: str, instance: str) -> MemorySource:
        """Make a member of a group."""
        made = MemorySource(self, group, instance)
        self._sources.add(made)
        return made

    def reader(self) -> MemoryReader:
        """Make a reader."""
        return MemoryReader(self)

    def sink(self) -> MemorySink:
        """Make a publisher."""
        return MemorySink(self)

    def transactional_sink(self, transactional_id: str) -> MemoryTransactionalSink:
        """Make a transactional producer."""
        return MemoryTransactionalSink(self, transactional_id)

    def is_behind(self, group: str) -> bool:
        """Tell whether a member of a group has something to read."""
        with self.changed:
            return any(source.group == group and source.has_more for source in self._sources)

    def forget(self) -> None:
        """Drop what every source that reads a partition has behind it, and all of a partition that none reads; nobody may want it again.

        Whoever reads by a `reader` has to have read before. Nothing behind an open transaction goes.
        """
        with self.changed:
            positions: dict[TopicPartition, int] = {}
            for source in self._sources:
                for place, position in source.positions.items():
                    positions[place] = min(position, positions.get(place, position))
            for log in self.logs():
                if log.low < log.end:
                    log.delete_before(positions.get(log.address, log.end))
