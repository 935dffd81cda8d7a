"""The transaction of one step, written while the step is still going on."""

from collections.abc import Callable, Mapping, Sequence

from tidemill.shared.log.broker import TransactionalSink
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.runner.chain import Work

KnownOffset = Callable[[Sequence[Work]], Mapping[TopicPartition, int]]


class StepTransaction:
    """What a step changes: outputs, shares of the state, progress records, the group's offsets. It begins with the first change.

    After a commit the broker takes some milliseconds to settle it, and answers the next transaction of the same producer only then; to join a
    partition, to write and to add offsets are a round trip each. All of that is over by the end of a step if its first stage is written while those
    behind it are at work. A transaction that stands open for too long is aborted by the broker, though, and its producer fenced: so not when a step
    may take seconds (`eager`).

    Parameters
    ----------
    sink
        Has no open transaction.
    membership
        Of the source, for the offsets.
    leads
        Tasks of the first stage that take part: with the last of them the offsets are known.
    known_offset
        An offset that the group has already, of tasks that did not read on: the group's generation goes with it, which fences a member that has
        lost its partitions.
    eager
        Whether to write each work at once, or all of them before the commit.
    """

    def __init__(self, sink: TransactionalSink, membership: Callable[[], object], leads: int, known_offset: KnownOffset, eager: bool) -> None:
        self._sink = sink
        self._membership = membership
        self._unfinished_leads = leads
        self._known_offset = known_offset
        self._eager = eager
        self._waiting: list[Work] = []
        self._changed: list[Work] = []
        self._offsets: dict[TopicPartition, int] = {}
        self._offsets_sent = False

    @property
    def changed(self) -> Sequence[Work]:
        """Works that change anything."""
        return [*self._changed, *self._waiting]

    def add(self, work: Work, lead: bool) -> None:
        """Take what came of a task's step."""
        if lead:
            self._unfinished_leads -= 1
        if work.outcome.changed:
            self._waiting.append(work)
        if self._eager:
            self._write()
            if self._unfinished_leads == 0:
                self._send_offsets()

    def commit(self) -> Mapping[TopicPartition, int]:
        """Make everything visible; where logs end then, as `TransactionalSink.commit` says it."""
        self._write()
        self._send_offsets()
        return self._sink.commit()

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            if not self._changed:
                self._sink.begin()
            self._changed.append(work)
            for emission in [*work.outcome.emissions, work.outcome.record]:
                self._sink.produce(emission)
            self._offsets.update(work.outcome.group_offsets)

    def _send_offsets(self) -> None:
        if self._changed and not self._offsets_sent:
            self._offsets_sent = True
            self._sink.send_offsets(self._offsets or self._known_offset(self._changed), self._membership())
