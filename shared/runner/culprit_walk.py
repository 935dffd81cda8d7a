"""Finds the record that ends a process, by letting child processes die of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.child_watch import Ending
from tidemill.shared.runner.forked_walk import ForkedWalk, Found, last_offsets, record_at
from tidemill.shared.runner.lent_broker import Lender
from tidemill.shared.runner.rehearsal import BEFORE, Rehearsal
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
    """All that was found in a stretch, or in its beginning.

    Attributes
    ----------
    cut_at
        Last offset per input of that beginning; empty where the whole stretch was gone through.
    """

    found: Sequence[Culprit]
    cut_at: Mapping[TopicPartition, int] = field(default_factory=dict)


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
    """Finds the records of a stretch that a task does not survive: all of them, or the first ones where each costs the stretch once more.

    A child brings the task back, and scouts go through the stretch (`tidemill.shared.runner.forked_walk`). Nothing of what they do is seen by
    anybody, and the process that asks does not end.

    Parameters
    ----------
    alive
        Called while a child is at work; may raise to end the walk.
    """

    def __init__(self, child: StageChild, lender: Lender, alive: Callable[[], None], max_batch: int, clock_ms: Callable[[], int]) -> None:
        self._child, self._lender, self._alive = child, lender, alive
        self._max_batch, self._clock_ms = max_batch, clock_ms

    def go(self, rehearsal: Rehearsal) -> Ending:
        """Let one child go through one rehearsal; see `StageChild.go`."""
        return self._child.go(rehearsal, self._lender, self._alive)

    def find(self, stage: int, running: RunningTask, records: Sequence[Records]) -> WalkResult:
        """Look for culprits among records that the task is to be given next.

        Raises
        ------
        TransientError
            Something outside failed meanwhile (retry).
        """
        suspect, held = [one for one in records if len(one)], running.given_before()
        rehearsal = Rehearsal(stage, running.partition, self._clock_ms(), self._max_batch, running.owed, held=held, pieces=[suspect])
        with self._child.scouts(rehearsal, self._lender, self._alive) as scouts:
            standing = scouts.begin()
            if standing.how is not None:
                return HeldBack(held, None, standing.how) if standing.at == BEFORE else Unclear(standing.how)
            try:
                scouts.stand()
                found = ForkedWalk(scouts, sum(map(len, suspect))).find()
            except (EOFError, ConnectionError) as problem:
                return Unclear(f"the process that holds the task's state has ended: {problem}")
        return _result(found, suspect, held)


def _result(found: Found, records: Sequence[Records], held: Mapping[TopicPartition, int]) -> WalkResult:
    if found.culprits:
        return Culprits([Culprit(record_at(records, row), how) for row, how in found.culprits], last_offsets(records, found.cut_at))
    if found.stopped_at < 0:
        return Survives(found.size)
    suspect = record_at(records, found.stopped_at) if found.alone else None
    return HeldBack({**held, **last_offsets(records, found.stopped_at)}, suspect, found.how)
