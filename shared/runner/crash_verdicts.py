"""What a crash of a task leads to: the end of the process, ever smaller steps, trials, quarantine, or a suspension."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from enum import Enum

from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.crash_log import EVERYTHING, RESTORING, Crash, CrashLog, Span, as_text, ends_of, span_of
from tidemill.shared.runner.culprit_walk import Culprits, HeldBack, Unclear
from tidemill.shared.runner.forked_walk import SHARE
from tidemill.shared.runner.owed_quarantines import OwedQuarantines
from tidemill.shared.runner.running_task import RunningTask
from tidemill.shared.runner.step_sizes import StepSizes
from tidemill.shared.runner.suspensions import Suspensions

log = logging.getLogger(__name__)
# So many ends of a process without an exception are the records' doing: what kills from outside strikes elsewhere.
CERTAIN = 2
# After so many culprits of a task in one process children look for the next ones, also where they raise.
MANY = 2
# Of records in which culprits were found, and of those that follow: then children have no part any more.
CLEAN_WALKS = 2
# Records that children are given at once: as many as there are.
ALL = 1 << 20


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

    Attributes
    ----------
    owed
        Quarantines that are still to be committed.
    has_children
        Whether children try what has ended the process without an exception.
    """

    def __init__(self, crash_log: CrashLog, crash_limit: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._crashes = crash_log
        self._crash_limit = crash_limit
        self.owed = OwedQuarantines()
        self._sizes = StepSizes()
        self._suspensions = Suspensions(clock_s)
        self.has_children = False
        # Of each task in this process: records condemned; crashes on a single one since a trial; walks in a row in which children found no culprit;
        # tasks that were crashed by what children survive.
        self._condemned: Counter[int] = Counter()
        self._untried: Counter[int] = Counter()
        self._clean_walks: Counter[int] = Counter()
        self._without_children: set[int] = set()

    def use_children(self) -> None:
        """Have children try what has ended the process without an exception."""
        self.has_children = True

    @property
    def any(self) -> bool:
        """Whether a crash has not been passed yet."""
        return len(self._crashes) > 0

    def limit(self, partition: int, usual: int) -> int:
        """Records per step of a task."""
        crash = self._crashes.of(partition)
        if crash is None or not crash.limit:
            return usual
        return min(usual, self._sizes.of(crash))

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
        return (self.has_children and crash.native) or self._suspensions.mute_lasts(crash)

    def waits_until(self, partition: int) -> float | None:
        """When a task that no record explains is to be tried again; None when it is not set aside."""
        crash = self._crashes.of(partition)
        return None if crash is None or crash.muted else self._suspensions.until_s(partition)

    def tries_in_children(self, partition: int) -> bool:
        """Whether children are to be given a task's next records before it is: some of them have ended the process."""
        crash = self._crashes.of(partition)
        return self.has_children and crash is not None and crash.in_child and crash.searching and not crash.on_trial

    def tick_is_due(self, partition: int) -> bool:
        """Whether a task that ends the process when it has no input is to be tried without input again, in a child."""
        crash = self._crashes.of(partition)
        return self.has_children and crash is not None and crash.native and crash.muted and not self._suspensions.mute_lasts(crash)

    def tick_survived(self, partition: int) -> None:
        """Learn that a child survives a step without input now."""
        crash = self._crashes.of(partition)
        if crash is not None:
            self._crashes.put(replace(crash, native=False))

    def survives(self, partition: int, size: int, again: bool = False) -> None:
        """Learn that a child survived a task's next records, in steps of this size; `again`: culprits were found in them before."""
        self._sizes.set(partition, size)
        self._clean_walks[partition] += not again

    def learn(self, partition: int, finding: Culprits | HeldBack | Unclear, ends: Mapping[str, int]) -> None:
        """Learn what children found among a task's next records, whose last offsets are `ends`."""
        crash = self._crashes.of(partition)
        if crash is None:
            return
        match finding:
            case Culprits(found):
                # Where there are many, more follow: the search goes on until children have found none among as many records as these.
                self._crashes.put(replace(crash, ends=ends if EVERYTHING not in crash.ends else crash.ends))
                self._clean_walks[partition] = 0
                since = f"; {crash.error}" if crash.native else ""
                self._condemn(partition, [(one.record, f"ended child processes that tried it, alone at last: {one.how}{since}") for one in found])
            case HeldBack(given, record, how):
                step = ends_of([record]) if record is not None else {}
                self.put_on_trial(replace(crash, native=True, error=how), as_text(given), step)
            case Unclear(how):
                log.error("children say nothing of what ends the process: it is its own probe", extra={"partition": partition, "why": how})
                self._stop_children(replace(crash, limit=max(1, crash.records // SHARE)))
                self._sizes.reset(partition)

    def suspected(self, partition: int) -> Crash | None:
        """Return the crash whose cause is to be told by trials."""
        crash = self._crashes.of(partition)
        return crash if crash is not None and crash.on_trial else None

    def search_backlog(self, partition: int) -> None:
        """Search everything up to the end of the log: the step that crashed had given its records places that they have no more."""
        crash = self._crashes.of(partition)
        if crash is not None and crash.searching and EVERYTHING not in crash.ends:
            self._crashes.put(replace(crash, ends={EVERYTHING: 0}))

    def drained(self, partition: int, inner: Iterable[TopicPartition]) -> None:
        """Learn that a task has read these inputs to their end: the search is over once as many came of each as crashed."""
        crash = self._crashes.of(partition)
        if crash is not None and crash.searching and self._sizes.has_drained(crash, {f"{topic}:{number}" for topic, number in inner}):
            self._over(partition)

    def take_up(self, running: RunningTask) -> None:
        """Hand a restored task the quarantines it still has to commit; forget a crash that it has left behind."""
        partition = running.partition
        self.owed.settle(partition, running.quarantined)
        running.owed = self.owed.of(partition)
        crash = self._crashes.of(partition)
        if crash is not None and not crash.searching:
            self._sizes.forget_reached(partition)
        if crash is not None and not crash.on_trial and (crash.restoring or crash.passed_by(running.progress.input_offsets)):
            self._over(partition)

    def restoring_died(self, partition: int, error: str, native: bool) -> CrashVerdict:
        """Take note that a task could not be restored; the culprit is looked for among what it replays."""
        crash = self._crashes.count(partition, RESTORING, Span(0, {}, {}), error, native)
        log.error("restoring a task crashed", extra={"partition": partition, "crashes_here": crash.count, "error": error})
        if crash.count < (min(CERTAIN, self._crash_limit) if native else self._crash_limit):
            return CrashVerdict.END
        self.put_on_trial(crash, {}, {})
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
        before = self._crashes.of(partition)
        crash = self._crashes.count(partition, running.progress.input_offsets, span_of(inputs), error)
        log.error("task crashed", extra={"partition": partition, "crashes_here": crash.count, "records": count, "error": error})
        if crash.in_child:
            # What children survived crashes it: it must be its own probe.
            crash = self._stop_children(crash)
        elif count and not crash.on_trial and self._has_many(partition):
            log.warning("children are to find the records that crash the task", extra={"partition": partition, "records": count})
            self._crashes.put(replace(crash, limit=ALL, in_child=True), narrowed=True)
            return CrashVerdict.AGAIN
        if not crash.searching and not (crash.muted and not count) and crash.count < self._crash_limit:
            return CrashVerdict.END
        if count > 1 or follows:
            if count:
                self.narrow(crash, max(1, count // SHARE))
            else:
                self.mute(partition)
        elif count and not running.holding and self._condemned[partition] and self._untried[partition] < SHARE:
            # A trial has shown not long ago that it is the task's records and not the task: a second crash says as much as two trials of this one.
            self._untried[partition] += 1
            (culprit,) = (records for records in inputs if len(records))
            if before is not None and before.had(culprit):
                self.condemn(partition, culprit, f"crashed the task {crash.count} times: {error}")
        else:
            self.put_on_trial(crash, as_text(running.given_before()), ends_of(inputs))
        return CrashVerdict.AGAIN

    def condemn(self, partition: int, culprit: Records, detail: str) -> None:
        """Set a record aside for good, with the next commit."""
        self._condemn(partition, [(culprit, detail)])

    def _condemn(self, partition: int, culprits: Sequence[tuple[Records, str]]) -> None:
        for culprit, detail in culprits:
            topic, number, offset = self.owed.owe(partition, culprit, detail)
            log.error("quarantined", extra={"topic": topic, "partition": number, "offset": offset, "error": detail})
        self._condemned[partition] += len(culprits)
        crash = self._crashes.of(partition)
        if crash is not None and crash.in_child:
            self._sizes.reset(partition)
        else:
            self._sizes.grow_from_one(partition)
        if crash is not None:
            self._crashes.put(replace(crash, singles=0, low=-1, high=-1, trial=-1, tries=0, suspended=0), narrowed=True)

    def suspend(self, partition: int) -> None:
        """Set a task aside for a while: it crashes whatever it is given, so its state or its code is at fault and no record."""
        crash = self._crashes.of(partition)
        if crash is None:
            return
        detail = {"partition": partition, "wait_s": self._suspensions.wait_s(crash), "error": crash.error}
        log.error("the task crashes whatever it is given: it stands still and is tried again; the others go on", extra=detail)
        self._crashes.put(self._suspensions.begin(crash))

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
            self.narrow(crash, max(1, count // SHARE if alone else count))
        return CrashVerdict.AGAIN

    def mute(self, partition: int) -> None:
        """Call a task with input only, for a while: without input it crashes."""
        crash = self._crashes.of(partition)
        if crash is None:
            return
        detail = {"partition": partition, "wait_s": self._suspensions.wait_s(crash), "error": crash.error}
        log.error("the task crashes without input: for a while it is called with input only", extra=detail)
        self._crashes.put(self._suspensions.begin(replace(crash, muted=True)))

    def resumed(self, partition: int) -> None:
        """Let a task that was set aside be tried again: by children first if it ended the process."""
        self._suspensions.end(partition)
        crash = self._crashes.of(partition)
        if self.has_children and crash is not None and crash.native and crash.suspended and not crash.on_trial and not crash.muted:
            self.put_on_trial(crash, crash.held, crash.step)

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
            self.owed.committed(partition)
        crash = self._crashes.of(partition)
        if crash is None:
            return
        self._sizes.reach(partition, inputs)
        survived = self._sizes.has_passed(crash)
        if crash.searching:
            survived = survived and not self._expects_more(crash, inputs)
            self._sizes.count_step(crash, inputs)
        elif crash.muted:
            survived = not any(map(len, inputs))
        else:
            # What reads ahead of what it commits moves on long before it comes to the culprit again.
            survived = survived and committed and crash.place != as_text(running.progress.input_offsets)
        if survived:
            self._over(partition)

    def narrow(self, crash: Crash, limit: int) -> None:
        """Look for the culprit of a crash in steps of at most so many records."""
        if not crash.searching:
            log.warning("looking for the record that crashes the task", extra={"partition": crash.partition, "records": crash.records})
        narrower = self._sizes.narrow(crash, limit)
        self._crashes.put(narrower, narrowed=(narrower.limit, narrower.steady) != (crash.limit, crash.steady))

    def put_on_trial(self, crash: Crash, held: Mapping[str, int], step: Mapping[str, int]) -> None:
        """Have trials tell which record it was: one of the step, or one that the task had been given before (last offsets per input)."""
        self._untried[crash.partition] = 0
        self._crashes.put(replace(crash, held=held, step=step, low=0, high=-1, trial=-1, tries=0), narrowed=True)

    def _has_many(self, partition: int) -> bool:
        """Whether a task of this process has had so many culprits that children, which find all of a stretch by one restore, are the shorter way."""
        return self.has_children and self._condemned[partition] >= MANY and partition not in self._without_children

    def _expects_more(self, crash: Crash, inputs: Sequence[Records]) -> bool:
        """Whether children are to try what comes next as well: they have found culprits, and since then none but in those records was looked for."""
        found = crash.in_child and self._condemned[crash.partition] > 0
        return found and self._clean_walks[crash.partition] < CLEAN_WALKS and any(map(len, inputs))

    def _stop_children(self, crash: Crash) -> Crash:
        """Let the task be its own probe in this process."""
        self._without_children.add(crash.partition)
        self._sizes.reset(crash.partition)
        self._crashes.put(replace(crash, in_child=False))
        return replace(crash, in_child=False)

    def _over(self, partition: int) -> None:
        self._sizes.forget(partition)
        self._suspensions.end(partition)
        self._crashes.clear(partition)
