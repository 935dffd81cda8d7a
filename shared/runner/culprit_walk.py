"""Finds the record that ends a process, by letting child processes die of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.child_watch import Ending
from tidemill.shared.runner.forked_walk import AT_LEAST_S, MUCH_LONGER, SHARE, ForkedWalk, Found, last_offsets, record_at
from tidemill.shared.runner.lent_broker import Lender
from tidemill.shared.runner.rehearsal import BEFORE, RESTORING, Rehearsal
from tidemill.shared.runner.running_task import RunningTask
from tidemill.shared.runner.stage_child import StageChild


@dataclass(frozen=True, slots=True)
class Survives:
    """No child died: the task gets over the records in steps of this size."""

    size: int


@dataclass(frozen=True, slots=True)
class Culprit:
    """Two children died in a step that had this record alone."""

    record: Records
    how: str


@dataclass(frozen=True, slots=True)
class Culprits:
    """All that scouts have found in a stretch."""

    found: Sequence[Culprit]


@dataclass(frozen=True, slots=True)
class HeldBack:
    """A child dies while its task holds records back: the culprit is the record of that step, if there is one, or what was given before.

    Attributes
    ----------
    given
        Last offset per input that the task had been given before.
    """

    given: Mapping[TopicPartition, int]
    record: Records | None
    how: str


@dataclass(frozen=True, slots=True)
class Unclear:
    """Children end before the task has been given anything."""

    how: str


WalkResult = Survives | Culprits | HeldBack | Unclear


class CulpritWalk:
    """Narrows a stretch of records down to those that a task does not survive.

    A child brings the task back, and forks of it go through the stretch (`ForkedWalk`): all culprits are found by one restore. A child that has
    threads cannot be forked. Then each child is given the stretch in pieces of a 32nd; the piece it dies in is cut into 32 for the next one, which
    gets what came before as the first one did. So ten thousand records take four children, the last of which confirms, for the first culprit only.
    Nothing of what children do is seen by anybody, and the process that asks does not end.

    Parameters
    ----------
    alive
        Called while a child is at work; may raise to end the walk.
    """

    def __init__(self, child: StageChild, lender: Lender, alive: Callable[[], None], max_batch: int, clock_ms: Callable[[], int]) -> None:
        self._child, self._lender, self._alive = child, lender, alive
        self._max_batch, self._clock_ms = max_batch, clock_ms

    def go(self, rehearsal: Rehearsal, silence_s: float | None = None) -> Ending:
        """Let one child go through one rehearsal; see `StageChild.go`."""
        return self._child.go(rehearsal, self._lender, self._alive, silence_s)

    def find(self, stage: int, running: RunningTask, records: Sequence[Records]) -> WalkResult:
        """Look for culprits among records that the task is to be given next.

        Raises
        ------
        TransientError
            Something outside failed meanwhile (retry).
        """
        suspect = [one for one in records if len(one)]
        result = self._by_scouts(stage, running, suspect)
        return self._by_children(stage, running, suspect) if result is None else result

    def _by_scouts(self, stage: int, running: RunningTask, records: list[Records]) -> WalkResult | None:
        """Find all culprits; None where the child cannot be forked."""
        held = running.given_before()
        rehearsal = Rehearsal(stage, running.partition, self._clock_ms(), self._max_batch, running.owed, held=held, pieces=[records])
        with self._child.scouts(rehearsal, self._lender, self._alive) as scouts:
            standing = scouts.begin()
            if standing.how is not None:
                return HeldBack(held, None, standing.how) if standing.at == BEFORE else Unclear(standing.how)
            try:
                if not scouts.fork():
                    return None
                found = ForkedWalk(scouts, _count(records)).find()
            except (EOFError, ConnectionError) as problem:
                return Unclear(f"the process that holds the task's state has ended: {problem}")
        return _result(found, records, held)

    def _by_children(self, stage: int, running: RunningTask, suspect: list[Records]) -> WalkResult:
        """Find the first culprit, with a restore for each child that dies."""
        held = running.given_before()
        now_ms = self._clock_ms()
        sure: list[list[Records]] = []
        size = max(1, _count(suspect) // SHARE)
        alone: Records | None = None
        silence_s: float | None = None
        while True:
            pieces = [*sure, *_cut(suspect, size)]
            rehearsal = Rehearsal(stage, running.partition, now_ms, self._max_batch, running.owed, held=held, pieces=pieces)
            ending = self.go(rehearsal, None if alone is not None else silence_s)
            if ending.how is None:
                return Survives(size)
            if ending.at is None or ending.at == RESTORING:
                return Unclear(ending.how)
            if ending.at == BEFORE or ending.at == len(pieces):
                return HeldBack({**held, **_last(pieces[: max(0, ending.at)])}, None, ending.how)
            if ending.slowest_s is not None:
                silence_s = max(AT_LEAST_S, MUCH_LONGER * ending.slowest_s)
            sure, suspect = pieces[: ending.at], pieces[ending.at]
            size = max(1, _count(suspect) // SHARE)
            if _count(suspect) == 1:
                (record,) = suspect
                if ending.holding:
                    return HeldBack({**held, **_last(sure)}, record, ending.how)
                if alone is not None and _place(alone) == _place(record):
                    return Culprits([Culprit(record, ending.how)])
                alone = record
            else:
                alone = None


def _result(found: Found, records: Sequence[Records], held: Mapping[TopicPartition, int]) -> WalkResult:
    if found.culprits:
        return Culprits([Culprit(record_at(records, row), how) for row, how in found.culprits])
    if found.stopped_at < 0:
        return Survives(found.size)
    suspect = record_at(records, found.stopped_at) if found.alone else None
    return HeldBack({**held, **last_offsets(records, found.stopped_at)}, suspect, found.how)


def _count(records: Sequence[Records]) -> int:
    return sum(map(len, records))


def _last(pieces: Sequence[Sequence[Records]]) -> dict[TopicPartition, int]:
    """Last offset per input."""
    return {TopicPartition(one.topic, one.partition): int(one.offsets[-1]) for piece in pieces for one in piece}


def _place(record: Records) -> tuple[str, int, int]:
    return record.topic, record.partition, int(record.offsets[0])


def _cut(records: Sequence[Records], size: int) -> list[list[Records]]:
    """Cut runs into steps of so many records."""
    pieces: list[list[Records]] = []
    room = 0
    for one in records:
        begin = 0
        while begin < len(one):
            if not room:
                pieces.append([])
                room = size
            part = one[begin : begin + room]
            pieces[-1].append(part)
            begin, room = begin + len(part), room - len(part)
    return pieces
