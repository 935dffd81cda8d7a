"""A step that is never committed: a task is restored, given some records, and nothing of what it says goes anywhere."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.quarantine import Withheld
from tidemill.shared.runner.restore import Restore
from tidemill.shared.runner.task import StepContext

# Where a rehearsal stands, besides the number of the piece it is at: bringing the task back, giving it what it had before.
RESTORING, BEFORE = -2, -1
_CHECKPOINT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a task is to go through.

    Attributes
    ----------
    stage
        Its stage's place in the chain.
    owed
        Records whose quarantine is not committed yet, and why.
    withheld
        Offsets [begin, end) per input that are passed over, in the replay and later.
    held
        Last offset per input that the task had been given before, beyond its committed positions: it is given that again.
    pieces
        What follows, a step for each; at last comes a step without input.
    now_ms
        Processing time of every step.
    max_batch
        Records per step of what is given again.
    """

    stage: int
    partition: int
    now_ms: int
    max_batch: int
    owed: Sequence[tuple[Records, str]] = ()
    withheld: Withheld = field(default_factory=dict)
    held: Mapping[TopicPartition, int] = field(default_factory=dict)
    pieces: Sequence[Sequence[Records]] = ()


StepObserver = Callable[[int, bool], None]


class RehearsedTask:
    """A task that is brought back and goes on as if each of its steps were committed; raises whatever the task raises.

    Every input counts as read to its end, so that a merge lets go of everything within the step that brought it.

    Parameters
    ----------
    told
        Called with `RESTORING` and with `BEFORE` before the task is brought back and is given what it had before.
    """

    def __init__(self, restore: Restore, rehearsal: Rehearsal, told: StepObserver) -> None:
        told(RESTORING, False)
        condemned = [(record.topic, record.partition, int(record.offsets[0])) for record, _ in rehearsal.owed]
        self._running = restore.restore(rehearsal.partition, condemned, rehearsal.withheld)
        self._running.owed = list(rehearsal.owed)
        self._context = StepContext(rehearsal.now_ms, frozenset(self._running.reading))
        given_before = {place: (begin, rehearsal.held.get(place, -1) + 1) for place, begin in self._running.reading.items()}
        again = list(batches(restore, given_before, rehearsal.max_batch))
        told(BEFORE, False)
        for batch in again:
            self.give(batch)
        self._running.begin()

    @property
    def holding(self) -> bool:
        """Whether it holds back what it has been given."""
        return self._running.holding

    def give(self, inputs: Sequence[Records]) -> None:
        """Let it make one step."""
        outcome = self._running.process(inputs, self._context, 0, _CHECKPOINT_BYTES)
        self._running.passed(inputs)
        self._running.accept(outcome, dict(self._running.marks))
        self._running.begin()

    def condemn(self, record: Records, why: str) -> None:
        """Have its next step pass a record over that is to be quarantined, a batch of one."""
        self._running.owed = [*self._running.owed, (record, why)]


def perform(task: RehearsedTask, pieces: Sequence[Sequence[Records]], told: StepObserver = lambda _number, _holding: None) -> None:
    """Go through the pieces of a rehearsal.

    Parameters
    ----------
    told
        Called before the task is given a piece, with its number (their count: the step without input) and whether the task holds back what it had
        before.
    """
    for number, piece in enumerate([*pieces, ()]):
        told(number, task.holding)
        task.give(piece)


def batches(restore: Restore, stretches: Mapping[TopicPartition, tuple[int, int]], size: int) -> Iterator[list[Records]]:
    """Read stretches [begin, end) of the log, in runs of about so many records."""
    batch: list[Records] = []
    for place, (begin, end) in stretches.items():
        for records in restore.read(place, begin, end) if begin < end else ():
            batch.append(records)
            if sum(map(len, batch)) >= size:
                yield batch
                batch = []
    if batch:
        yield batch
