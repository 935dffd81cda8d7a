"""How a process takes tasks over: it stands by while another one has precedence, ends what a dead one left open, and claims them."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tidemill.shared.log.broker import Broker, Source, TransactionalSink
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.runner.ownership import Precedence, claim
from tidemill.shared.runner.stage_topics import StageTopics

log = logging.getLogger(__name__)
# How often a process that stands by looks whether its turn has come.
_LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Rival:
    """A process of the other topology, as the broker knows it.

    Attributes
    ----------
    writer
        Transactional id.
    group, member
        Its name in which consumer group.
    """

    writer: str
    group: str
    member: str


class TakeOver:
    """Takes over the tasks that the group assigns to this process.

    Parameters
    ----------
    writer
        Transactional id of this process.
    topics
        Of its stages, in order.
    rivals
        Processes of the other topology under this instance's name. What one of them left open when it died is aborted before a task is taken over,
        so that nobody waits for the transaction's time-out.
    precedence
        Whom the tasks give way to; None when there is nobody.
    timer
        Steady seconds.
    """

    def __init__(
        self,
        broker: Broker,
        source: Source,
        sink: TransactionalSink,
        writer: str,
        topics: Sequence[StageTopics],
        rivals: Sequence[Rival],
        precedence: Precedence | None,
        timer: Callable[[], float],
    ) -> None:
        self._broker = broker
        self._source = source
        self._sink = sink
        self._writer = writer
        self._topics = topics
        self._rivals = list(rivals)
        self._precedence = precedence
        self._timer = timer
        self._held: Mapping[int, str] = {}
        self._looked = 0.0

    def free(self, partitions: Sequence[int]) -> list[int]:
        """Leave out tasks that another process has precedence for, and remember them."""
        holders = {partition: self._precedence.holder(partition) for partition in partitions} if self._precedence is not None else {}
        self._looked = self._timer()
        held = {partition: holder for partition, holder in holders.items() if holder is not None}
        if held and held != self._held:
            log.warning("stands by: another topology runs these tasks; stop it, or stop this process", extra={"tasks": held})
        self._held = held
        return [partition for partition in partitions if partition not in held]

    def has_come(self) -> bool:
        """Say whether a task that was left out is free now; looks once a second."""
        if not self._held or self._precedence is None or self._timer() - self._looked <= _LOOK_EVERY_S:
            return False
        self._looked = self._timer()
        return any(self._precedence.holder(partition) is None for partition in self._held)

    def claim(self, partitions: Sequence[int]) -> None:
        """Make the next transaction of whoever else writes for these tasks fail.

        Raises
        ------
        TransientError
            This process has lost the tasks meanwhile, or the transaction has to be repeated.
        """
        if not partitions:
            return
        self._fence_the_dead()
        self._sink.begin()
        for partition in partitions:
            for topics in self._topics:
                self._sink.produce(claim(TopicPartition(topics.progress, partition), self._writer))
        known = self._source.committed([place for partition in partitions for place in self._topics[0].grouped(partition)])
        if known:
            # These offsets do not change. With them goes the group's generation: a member that has lost the partitions without knowing it is refused.
            self._sink.send_offsets(known, self._source.membership())
        self._sink.commit()

    def _fence_the_dead(self) -> None:
        """Abort what rivals left open, once for each. One that lives (its group knows it) ends its transactions by itself, and is let live."""
        for rival in list(self._rivals):
            if rival.member not in self._broker.members(rival.group):
                sink = self._broker.transactional_sink(rival.writer)
                sink.open()
                sink.close()
                self._rivals.remove(rival)
