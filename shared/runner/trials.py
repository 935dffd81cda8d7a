"""Trials of a task that are never committed: which records does it not survive."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.runner.child_watch import Ending
from tidemill.shared.runner.crash_log import Crash
from tidemill.shared.runner.crash_verdicts import CrashVerdicts
from tidemill.shared.runner.quarantine import Withheld
from tidemill.shared.runner.rehearsal import RESTORING, Rehearsal, RehearsedTask, batches, perform
from tidemill.shared.runner.restore import ReplayCrashedError, Restore, SupersededError

log = logging.getLogger(__name__)
_CERTAIN = 2
# The trial without held records and without the step's.
_NOTHING = -2


@dataclass(frozen=True, slots=True)
class SuspectRecords:
    """Records in a fixed order, of which a trial gives the first few and withholds the rest.

    Attributes
    ----------
    stretches
        (place, first offset, end).
    """

    stretches: Sequence[tuple[TopicPartition, int, int]]

    def __len__(self) -> int:
        return sum(end - begin for _, begin, end in self.stretches)

    def without(self, count: int) -> dict[TopicPartition, tuple[int, int]]:
        """Offsets that are withheld when only the first `count` are given."""
        withheld = {}
        for place, begin, end in self.stretches:
            taken = min(max(count, 0), end - begin)
            count -= taken
            if taken < end - begin:
                withheld[place] = begin + taken, end
        return withheld

    def last(self, count: int) -> tuple[TopicPartition, int]:
        """Place and offset of the last of the first `count`."""
        for place, begin, end in self.stretches:
            if count <= end - begin:
                return place, begin + count - 1
            count -= end - begin
        raise IndexError(f"expected at most {len(self)} candidates, got {count} more")


class CrashTrials:
    """Tells which record it was, once the step that crashes has one record at most, by restoring the task again and again with fewer records.

    A crash may come long after its cause: a merge holds a record back, and falls over it when another input lets it go. So candidates
    are the record of the step and those that the task had been given before and had not done with, replay included. Nothing of a trial
    is committed. First the task gets the step's record without the held ones: if it crashes, that record did it (or the task crashes
    whatever it is given). Else the smallest number of first held records with which it crashes names the last of them, after about
    log2(candidates) restores. After a death without an exception each trial is a child process (`StageChild`), where there can be one; else what ends
    the process in a trial is known to the next one by the crash log.
    """

    def __init__(self, stage: int, restore: Restore, verdicts: CrashVerdicts, max_batch: int, clock_ms: Callable[[], int]) -> None:
        self._stage = stage
        self._in_child: Callable[[Rehearsal], Ending] | None = None
        self._restore = restore
        self._verdicts = verdicts
        self._max_batch = max_batch
        self._clock_ms = clock_ms

    def use_children(self, go: Callable[[Rehearsal], Ending]) -> None:
        """Let what may end a process end a child's."""
        self._in_child = go

    def settle(self, partition: int) -> None:
        """Hold the trials that a task's crash asks for: a record is condemned, the task set aside, or nothing is found.

        Raises
        ------
        TransientError
            The log cannot be read now (retry; what was found so far is kept).
        """
        crash = self._verdicts.suspected(partition)
        if crash is None:
            return
        if crash.trial != -1:
            # The process before died in this trial: from outside (it is repeated) or by it.
            tries = crash.tries + 1
            if tries >= _CERTAIN and crash.trial == _NOTHING:
                self._verdicts.suspend(partition)
                return
            crash = replace(crash, high=crash.trial, trial=-1, tries=0) if tries >= _CERTAIN else replace(crash, trial=-1, tries=tries)
        candidates = self._candidates(crash)
        total, error = len(candidates), crash.error
        if crash.high < 0:
            crash, problem = self._try(crash, candidates, total)
            if problem is None:
                log.warning("the task does not crash any more", extra={"partition": partition})
                self._verdicts.absolve(partition)
                return
        if crash.low == 0 and crash.high > 0:
            crash, problem = self._try(crash, candidates, 0)
        if crash.high == 0:
            self._blame_step(crash, candidates)
            return
        while crash.high > crash.low:
            crash, problem = self._try(crash, candidates, (crash.low - 1 + crash.high) // 2)
            error = problem or error
        place, offset = candidates.last(crash.high)
        self._condemn(crash, place, offset, error)

    def _blame_step(self, crash: Crash, candidates: SuspectRecords) -> None:
        """Condemn the record of the step, unless the task crashes without it as well."""
        blamed = {name: offset for name, offset in crash.step.items() if not _place(name).topic.endswith("-progress")}
        if crash.restoring:
            # It was given nothing, so what it is brought back from is at fault: no record, and no step without input.
            self._verdicts.suspend(crash.partition)
            return
        if not crash.step and not crash.held and not len(candidates):
            self._verdicts.mute(crash.partition)
            return
        crash, problem = self._try(crash, candidates, _NOTHING)
        if problem is None and blamed:
            ((name, offset),) = blamed.items()
            self._condemn(crash, _place(name), offset, crash.error)
        elif problem is not None and not crash.step:
            self._verdicts.mute(crash.partition)
        else:
            self._verdicts.suspend(crash.partition)

    def _condemn(self, crash: Crash, place: TopicPartition, offset: int, error: str) -> None:
        culprit = self._restore.record_at(place, offset)
        if culprit is None:
            # Between the records of a log there are marks of transactions: no candidate, so something has changed meanwhile. Once more.
            self._verdicts.note(replace(crash, low=0, high=-1, trial=-1, tries=0))
        else:
            self._verdicts.condemn(crash.partition, culprit, f"crashed the task {crash.count} times: {error}")

    def _try(self, crash: Crash, candidates: SuspectRecords, count: int) -> tuple[Crash, str | None]:
        """Give the task the first candidates only, and the step's record; what is known then, and why it crashed if it did."""
        try:
            problem = self._crash_of(crash, count, candidates.without(count))
        except BaseException:
            # The log cannot be read now, or the task is somebody else's: it says nothing of the records, and is no death in a trial.
            self._verdicts.note(crash)
            raise
        if count == _NOTHING:
            known = replace(crash, tries=0)
        elif problem is None:
            known = replace(crash, low=max(crash.low, count + 1), tries=0)
        else:
            known = replace(crash, high=count, tries=0)
        self._verdicts.note(known, narrowed=True)
        return known, problem

    def _crash_of(self, crash: Crash, count: int, withheld: Withheld) -> str | None:
        step = {_place(name): (offset, offset + 1) for name, offset in crash.step.items()} if count != _NOTHING else {}
        rehearsal = Rehearsal(
            self._stage,
            crash.partition,
            self._clock_ms(),
            self._max_batch,
            self._verdicts.owed.of(crash.partition),
            withheld,
            {_place(name): last for name, last in crash.held.items()},
            list(batches(self._restore, step, self._max_batch)),
        )
        if crash.native and self._in_child is not None:
            ending = self._in_child(rehearsal)
            if ending.at is not None:
                return ending.how
            log.error("no child can be used for a trial: it is held in this process", extra={"partition": crash.partition, "why": ending.how})
        self._verdicts.note(replace(crash, trial=count))
        at = RESTORING

        def told(number: int, _holding: bool) -> None:
            nonlocal at
            at = number

        try:
            perform(RehearsedTask(self._restore, rehearsal, told), rehearsal.pieces, told)
        except (TransientError, SupersededError, KeyboardInterrupt, SystemExit):
            raise
        except ReplayCrashedError as problem:
            return f"{type(problem.cause).__name__}: {problem.cause}"
        except BaseException as problem:
            # PanicException of extensions in Rust (polars) is no Exception. What fails before the task is given anything is not the task's.
            if at == RESTORING:
                raise
            return f"{type(problem).__name__}: {problem}"
        return None

    def _candidates(self, crash: Crash) -> SuspectRecords:
        """What the task is given again when it is restored, and what it had been given beyond its committed positions."""
        replayed, positions = self._restore.begins(crash.partition)
        ends = {place: crash.held.get(_name(place), -1) + 1 for place in positions}
        stretches = [(place, begin, max(end, ends.get(place, end))) for place, begin, end in replayed]
        known = {place for place, _, _ in stretches}
        stretches += [(place, begin, ends[place]) for place, begin in positions.items() if place not in known]
        return SuspectRecords([(place, begin, end) for place, begin, end in stretches if begin < end and not place.topic.endswith("-progress")])


def _name(place: TopicPartition) -> str:
    return f"{place.topic}:{place.partition}"


def _place(name: str) -> TopicPartition:
    topic, _, partition = name.rpartition(":")
    return TopicPartition(topic, int(partition))
