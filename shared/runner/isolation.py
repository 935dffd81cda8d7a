"""Finds what crashes a task: ever smaller steps after several crashes at one place, then quarantine."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import Enum

from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.crash_log import EVERYTHING, RESTORING, Crash, CrashLog, Span, as_text, ends_of, span_of
from tidemill.shared.runner.culprit_walk import SHARE, Culprit, HeldBack, Unclear
from tidemill.shared.runner.death_note import Death
from tidemill.shared.runner.quarantine import Address
from tidemill.shared.runner.running_task import RunningTask

log = logging.getLogger(__name__)
RecordAt = Callable[[TopicPartition, int], Records | None]
# A record ends a process without an exception so often, alone in its step, before it is quarantined: what kills from outside strikes elsewhere.
_CERTAIN = 2
_SUSPENDED_S, _LONGEST_SUSPENDED_S = 1.0, 600.0


class CrashVerdict(Enum):
    """What a crash leads to."""

    END = "the process ends, nothing of the step committed"
    AGAIN = "the tasks are restored and go on, with smaller steps if a search is under way"


class CrashVerdicts:
    """Decides what a crash of a task leads to; one for each stage of a process.

    A search is known by its partition, so several go on at a time, and each survives the process (`CrashLog`).

    Parameters
    ----------
    crash_log
        Counts crashes across restarts.
    crash_limit
        Crashes at one place after which the culprit is looked for; without an exception (a signal, out of memory, a hang) two at most.
    """

    def __init__(self, crash_log: CrashLog, crash_limit: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._crashes = crash_log
        self._crash_limit = crash_limit
        self._clock_s = clock_s
        self._owed: dict[int, dict[Address, tuple[Records, str]]] = {}
        self._seen: dict[int, dict[str, int]] = {}
        self._sizes: dict[int, tuple[int, int]] = {}
        self._waiting: dict[int, float] = {}
        self._given: dict[int, int] = {}
        self._children = False

    def use_children(self) -> None:
        """Have children try what has ended the process without an exception."""
        self._children = True

    @property
    def any(self) -> bool:
        """Whether a crash has not been passed yet."""
        return len(self._crashes) > 0

    def limit(self, partition: int, usual: int) -> int:
        """Records per step of a task."""
        crash = self._crashes.of(partition)
        if crash is None or not crash.limit:
            return usual
        return min(usual, self._sizes.get(partition, (crash.limit, 0))[0])

    def searching(self, partition: int) -> bool:
        """Whether the culprit of a task's crash is looked for."""
        crash = self._crashes.of(partition)
        return crash is not None and crash.searching

    def muted(self, partition: int) -> bool:
        """Whether a task is not called without input now: without it, it crashes; it is tried again after a while."""
        crash = self._crashes.of(partition)
        if crash is None or not crash.muted:
            return False
        # What has ended the process is called again once a child has survived it.
        return (self._children and crash.native) or self._mute_lasts(crash)

    def waits_until(self, partition: int) -> float | None:
        """When a task that no record explains is to be tried again; None when it is not set aside."""
        crash = self._crashes.of(partition)
        return None if crash is None or crash.muted else self._waiting.get(partition)

    def tries_in_children(self, partition: int) -> bool:
        """Whether children are to be given a task's next records before it is: some of them have ended the process."""
        crash = self._crashes.of(partition)
        return self._children and crash is not None and crash.in_child and crash.searching and not crash.on_trial

    def tick_is_due(self, partition: int) -> bool:
        """Whether a task that ends the process when it has no input is to be tried without input again, in a child."""
        crash = self._crashes.of(partition)
        return self._children and crash is not None and crash.native and crash.muted and not self._mute_lasts(crash)

    def tick_survived(self, partition: int) -> None:
        """Learn that a child survives a step without input now."""
        crash = self._crashes.of(partition)
        if crash is not None:
            self._crashes.put(replace(crash, native=False))

    def survives(self, partition: int, size: int) -> None:
        """Learn that a child survived a task's next records, in steps of this size."""
        self._sizes[partition] = (size, 0)

    def found(self, partition: int, finding: Culprit | HeldBack | Unclear) -> None:
        """Learn what children found among a task's next records."""
        crash = self._crashes.of(partition)
        if crash is None:
            return
        match finding:
            case Culprit(record, how):
                self.condemn(partition, record, f"ended child processes that tried it, alone at last: {how}; {crash.error}")
            case HeldBack(given, record, how):
                step = ends_of([record]) if record is not None else {}
                self._put_on_trial(replace(crash, native=True, error=how), as_text(given), step)
            case Unclear(how):
                log.error("children say nothing of what ends the process: it is its own probe", extra={"partition": partition, "why": how})
                self._crashes.put(replace(crash, in_child=False, limit=max(1, crash.records // SHARE)))
                self._sizes.pop(partition, None)

    def suspected(self, partition: int) -> Crash | None:
        """Return the crash whose cause is to be told by trials."""
        crash = self._crashes.of(partition)
        return crash if crash is not None and crash.on_trial else None

    def owed(self, partition: int) -> list[tuple[Records, str]]:
        """Records whose quarantine is still to be committed, and why."""
        return list(self._owed.get(partition, {}).values())

    def condemned(self, partition: int) -> list[Address]:
        """Where the owed records lie."""
        return list(self._owed.get(partition, {}))

    def search_backlog(self, partition: int) -> None:
        """Search everything up to the end of the log: the step that crashed had given its records places that they have no more."""
        crash = self._crashes.of(partition)
        if crash is not None and crash.searching and EVERYTHING not in crash.ends:
            self._crashes.put(replace(crash, ends={EVERYTHING: 0}))

    def drained(self, partition: int) -> None:
        """Learn that a task has read its inputs to their end: the search is over once as many came as crashed."""
        crash = self._crashes.of(partition)
        if crash is not None and crash.searching and EVERYTHING in crash.ends and self._given.get(partition, 0) >= crash.records:
            self._over(partition)

    def take_up(self, running: RunningTask, death: Death | None, follows: bool, record_at: RecordAt) -> None:
        """Hand a restored task the quarantines it still has to commit; count the death of the process before, if this task was at work then.

        Parameters
        ----------
        death
            How the process before ended, if it was in this task and without an exception.
        follows
            Whether the task reads what stages before it write in the same transaction.
        record_at
            Reads one record of the log.
        """
        partition, progress = running.partition, running.progress
        if death is not None and not death.restoring and death.sequence == progress.sequence:
            self._count_death(running, death, follows, record_at)
        # A commit that was reported as failed may have taken place: what the log holds is owed no more.
        owed = self._owed.get(partition, {})
        for address in [address for address in owed if address in running.quarantined]:
            del owed[address]
        running.owed = self.owed(partition)
        crash = self._crashes.of(partition)
        if crash is not None and not crash.searching:
            self._seen.pop(partition, None)
        if crash is not None and not crash.on_trial and (crash.restoring or crash.passed_by(progress.input_offsets)):
            self._over(partition)

    def restoring_died(self, partition: int, error: str, native: bool) -> CrashVerdict:
        """Take note that a task could not be restored; the culprit is looked for among what it replays."""
        crash = self._crashes.count(partition, RESTORING, Span(0, {}, {}), error, native)
        log.error("restoring a task crashed", extra={"partition": partition, "crashes_here": crash.count, "error": error})
        if crash.count < (min(_CERTAIN, self._crash_limit) if native else self._crash_limit):
            return CrashVerdict.END
        self._put_on_trial(crash, {}, {})
        return CrashVerdict.AGAIN

    def judge(self, running: RunningTask, inputs: Sequence[Records], cause: BaseException, follows: bool) -> CrashVerdict:
        """Count a crash; begin a search or narrow it.

        Parameters
        ----------
        follows
            Whether the inputs are written in the same step: they have no lasting place in the log yet.
        """
        partition, count = running.partition, sum(map(len, inputs))
        error = f"{type(cause).__name__}: {cause}"
        crash = self._crashes.count(partition, running.progress.input_offsets, span_of(inputs), error)
        log.error("task crashed", extra={"partition": partition, "crashes_here": crash.count, "records": count, "error": error})
        if not crash.searching and not (crash.muted and not count) and crash.count < self._crash_limit:
            return CrashVerdict.END
        if count > 1 or follows:
            if count:
                self._narrow(crash, max(1, count // SHARE))
            else:
                self.mute(partition)
        else:
            self._put_on_trial(crash, as_text(running.given_before()), ends_of(inputs))
        return CrashVerdict.AGAIN

    def condemn(self, partition: int, culprit: Records, detail: str) -> None:
        """Set a record aside for good, with the next commit."""
        address = (culprit.topic, culprit.partition, int(culprit.offsets[0]))
        log.error("quarantined", extra={"topic": address[0], "partition": address[1], "offset": address[2], "error": detail})
        self._owed.setdefault(partition, {})[address] = (culprit, detail)
        self._sizes[partition] = (1, SHARE + 1)
        crash = self._crashes.of(partition)
        if crash is not None and crash.in_child:
            self._sizes.pop(partition)
        if crash is not None:
            self._crashes.put(replace(crash, singles=0, low=-1, high=-1, trial=-1, tries=0, suspended=0), narrowed=True)

    def suspend(self, partition: int) -> None:
        """Set a task aside for a while: it crashes whatever it is given, so its state or its code is at fault and no record."""
        crash = self._crashes.of(partition)
        if crash is None:
            return
        detail = {"partition": partition, "wait_s": self._wait(crash), "error": crash.error}
        log.error("the task crashes whatever it is given: it stands still and is tried again; the others go on", extra=detail)
        self._set_aside(crash)

    def refused(self, running: RunningTask, inputs: Sequence[Records], cause: Exception, follows: bool, alone: bool) -> CrashVerdict:
        """Count a step whose outputs could not be written for what they are; the task itself did not crash.

        Parameters
        ----------
        alone
            Whether no other task had inputs in the step; if some had, each makes its next steps by itself.
        """
        partition, count = running.partition, sum(map(len, inputs))
        error = f"{type(cause).__name__}: {cause}"
        crash = self._crashes.count(partition, running.progress.input_offsets, span_of(inputs), error)
        log.error("outputs cannot be written", extra={"partition": partition, "crashes_here": crash.count, "records": count, "error": error})
        if not crash.searching and crash.count < self._crash_limit:
            return CrashVerdict.END
        if count == 1 and alone and not follows:
            (culprit,) = (records for records in inputs if len(records))
            self.condemn(partition, culprit, f"its outputs cannot be written: {error}")
        else:
            self._narrow(crash, max(1, count // SHARE if alone else count))
        return CrashVerdict.AGAIN

    def mute(self, partition: int) -> None:
        """Call a task with input only, for a while: without input it crashes."""
        crash = self._crashes.of(partition)
        if crash is None:
            return
        wait_s = self._wait(crash)
        detail = {"partition": partition, "wait_s": wait_s, "error": crash.error}
        log.error("the task crashes without input: for a while it is called with input only", extra=detail)
        self._set_aside(replace(crash, muted=True))

    def resumed(self, partition: int) -> None:
        """Let a task that was set aside be tried again: by children first if it ended the process."""
        self._waiting.pop(partition, None)
        crash = self._crashes.of(partition)
        if self._children and crash is not None and crash.native and crash.suspended and not crash.on_trial and not crash.muted:
            self._put_on_trial(crash, crash.held, crash.step)

    def note(self, crash: Crash, narrowed: bool = False) -> None:
        """Write down how far a search among held records has come."""
        self._crashes.put(crash, narrowed)

    def absolve(self, partition: int) -> None:
        """End a search that finds nothing: the task does not crash any more."""
        self._over(partition)

    def passed(self, running: RunningTask, inputs: Sequence[Records], committed: bool) -> None:
        """Take note of a step of a task that went well.

        A commit that leaves the positions where they were has not passed the place: what is held back there may crash the task yet.
        """
        partition = running.partition
        if committed:
            self._owed.pop(partition, None)
        crash = self._crashes.of(partition)
        if crash is None:
            return
        seen = self._seen.setdefault(partition, {})
        seen.update(ends_of(inputs))
        survived = EVERYTHING not in crash.ends and all(seen.get(name, -1) >= end for name, end in crash.ends.items())
        if not crash.searching:
            # What reads ahead of what it commits moves on long before it comes to the culprit again.
            moved = committed and crash.place != as_text(running.progress.input_offsets)
            if not any(map(len, inputs)) if crash.muted else moved and survived:
                self._over(partition)
            return
        size, steps = self._sizes.get(partition, (crash.limit, 0))
        steps += any(map(len, inputs))
        self._given[partition] = self._given.get(partition, 0) + sum(map(len, inputs))
        # Beyond the step that crashed there is nothing known: what is left is taken in growing steps.
        grows = steps > SHARE and self._given[partition] >= crash.steady and not crash.in_child
        self._sizes[partition] = (size * 2, steps) if grows else (size, steps)
        if survived:
            self._over(partition)

    def _count_death(self, running: RunningTask, death: Death, follows: bool, record_at: RecordAt) -> None:
        """Count the end of a process without an exception."""
        partition = running.partition
        error = f"the process ended without an exception ({death.cause or 'a signal, out of memory, or a hang'})"
        crash = self._crashes.count(partition, running.progress.input_offsets, death.step, error, native=True)
        detail = {"partition": partition, "crashes_here": crash.count, "records": death.step.records, "inputs": death.step.ends}
        log.error("the process before died in this task", extra=detail)
        # One that may have been a kill from outside is to come twice before anything is looked for.
        enough = 1 if death.cause and self._children else min(_CERTAIN, self._crash_limit)
        if crash.in_child:
            # What children survived has ended the process: it must be its own probe.
            crash = replace(crash, in_child=False)
            self._crashes.put(crash)
        elif self._children and death.step.records and not crash.searching and crash.count >= enough:
            log.warning("children are to find the record that ends the process", extra={"partition": partition, "records": death.step.records})
            self._crashes.put(replace(crash, limit=death.step.records, in_child=True), narrowed=True)
            return
        if crash.searching and death.step.records == 1:
            crash = replace(crash, singles=crash.singles + 1)
        if not crash.searching and crash.count < enough:
            return
        if death.step.records <= 1 and not follows and (death.held or not death.step.records):
            self._put_on_trial(crash, death.held, death.step.ends)
        elif not death.step.records:
            self._crashes.put(crash)
            self.mute(partition)
        elif death.step.records == 1 and crash.singles >= _CERTAIN:
            ((name, offset),) = death.step.ends.items()
            topic, _, number = name.rpartition(":")
            culprit = record_at(TopicPartition(topic, int(number)), offset)
            self._crashes.put(crash)
            if culprit is not None:
                self.condemn(partition, culprit, f"ended the process {crash.count} times, alone at last: {error}")
        else:
            self._narrow(crash, max(1, death.step.records // SHARE))

    def _narrow(self, crash: Crash, limit: int) -> None:
        if not crash.searching:
            log.warning("looking for the record that crashes the task", extra={"partition": crash.partition, "records": crash.records})
        steady = crash.steady
        if crash.searching and limit >= crash.limit:
            # The steps had grown, and the culprit came in company: a task that has not passed its inputs is given all of them again, and must come
            # to the same place before they grow. After a death nobody knows how far it had come.
            given = self._given.get(crash.partition, 0) + crash.records
            steady = max(given, 2 * steady, 2 * SHARE)
        for known in (self._seen, self._sizes, self._given):
            known.pop(crash.partition, None)
        self._crashes.put(replace(crash, limit=limit, steady=steady), narrowed=(limit, steady) != (crash.limit, crash.steady))

    def _put_on_trial(self, crash: Crash, held: Mapping[str, int], step: Mapping[str, int]) -> None:
        self._crashes.put(replace(crash, held=held, step=step, low=0, high=-1, trial=-1, tries=0), narrowed=True)

    def _mute_lasts(self, crash: Crash) -> bool:
        return self._clock_s() < self._waiting.setdefault(crash.partition, self._clock_s() + self._wait(crash) / 2)

    def _wait(self, crash: Crash) -> float:
        return min(_LONGEST_SUSPENDED_S, _SUSPENDED_S * 2.0**crash.suspended)

    def _set_aside(self, crash: Crash) -> None:
        self._waiting[crash.partition] = self._clock_s() + self._wait(crash)
        self._crashes.put(replace(crash, limit=0, low=-1, high=-1, trial=-1, tries=0, suspended=min(crash.suspended + 1, 20)))

    def _over(self, partition: int) -> None:
        for known in (self._seen, self._sizes, self._waiting, self._given):
            known.pop(partition, None)
        self._crashes.clear(partition)
