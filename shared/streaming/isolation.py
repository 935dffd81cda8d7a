"""Finds the record that crashes a task: ever smaller steps after several crashes at one place, then quarantine."""

import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shared.streaming.crash_log import Crash, CrashLog
from shared.streaming.records import Records, TopicPartition
from shared.streaming.running_task import RunningTask

log = logging.getLogger(__name__)
_EVERYTHING: Mapping[str, int] = {"": sys.maxsize}


@dataclass(slots=True)
class Isolation:
    """Bisects the input of one task until a single record crashes it.

    Attributes
    ----------
    limit
        Records per step.
    ends
        Last offset under suspicion per input, by ``topic:partition``.
    """

    partition: int
    limit: int
    ends: Mapping[str, int]
    seen: dict[str, int] = field(default_factory=dict)
    found: bool = False

    @classmethod
    def after(cls, crash: Crash) -> "Isolation":
        """Start with half of what crashed."""
        return cls(crash.partition, max(1, crash.records // 2), crash.ends)

    def narrow(self, given: Sequence[Records]) -> Records | None:
        """Take note of a crash: halve the steps, or name the culprit when it was alone."""
        count = sum(map(len, given))
        self.seen = {}
        self.limit = max(1, count // 2)
        self.found = count == 1
        return next(records for records in given if len(records)) if self.found else None

    def passed(self, given: Iterable[Records]) -> bool:
        """Take note of a step that went well; True when everything under suspicion has been passed."""
        for records in given:
            name = f"{records.topic}:{records.partition}"
            self.seen[name] = max(self.seen.get(name, -1), int(records.offsets[-1]))
        if self.found:
            self.limit *= 2
        return all(self.seen.get(name, -1) >= end for name, end in self.ends.items())


class CrashVerdicts:
    """Decides what a crash of a task leads to.

    Parameters
    ----------
    crash_log
        Counts crashes across restarts.
    crash_limit
        Crashes at one place after which the culprit is looked for.
    """

    def __init__(self, crash_log: CrashLog, crash_limit: int) -> None:
        self._crashes = crash_log
        self._crash_limit = crash_limit
        self._isolation: Isolation | None = None
        self._owed: dict[int, tuple[Records, str]] = {}

    def limit(self, usual: int) -> int:
        """Records per step while the search goes on."""
        return usual if self._isolation is None else min(usual, self._isolation.limit)

    @property
    def searching(self) -> bool:
        """Whether the culprit of a crash is looked for."""
        return self._isolation is not None

    def search_backlog(self) -> None:
        """Search everything up to the end of the log: the step that crashed had given its records places that they have no more."""
        if self._isolation is not None:
            self._isolation.ends = _EVERYTHING

    def drained(self) -> None:
        """Learn that the task has read its inputs to their end: there is nothing left to search."""
        if self._isolation is not None and self._isolation.ends is _EVERYTHING:
            self._isolation = None
            self._crashes.clear()

    def take_up(self, running: RunningTask) -> None:
        """Hand a restored task the quarantine it still has to commit, and start a search if it stands where it crashed too often."""
        if running.partition in self._owed:
            running.owed = [self._owed[running.partition]]
        crash = self._crashes.stands_at(running.partition, running.progress.input_offsets)
        if crash is not None and crash.count >= self._crash_limit and crash.records and self._isolation is None:
            log.warning("looking for the record that crashes the task", extra={"partition": crash.partition, "records": crash.records})
            self._isolation = Isolation.after(crash)

    def judge(self, running: RunningTask, inputs: Sequence[Records], cause: BaseException) -> Records | None:
        """Narrow the search; name the culprit once it is found; raise the cause when there is no search (the process must end).

        Progress records are never quarantined: a merge that crashes on one crashes on rows it had held back.
        """
        error = f"{type(cause).__name__}: {cause}"
        isolation = self._isolation if self._isolation and self._isolation.partition == running.partition and any(map(len, inputs)) else None
        culprit = isolation.narrow(inputs) if isolation else None
        if isolation is None or (culprit is not None and culprit.topic.endswith("-progress")):
            ends = {TopicPartition(records.topic, records.partition): int(records.offsets[-1]) for records in inputs}
            count = sum(map(len, inputs))
            crash = self._crashes.record(running.partition, running.progress.input_offsets, count, ends, error)
            log.error("task crashed", extra={"partition": running.partition, "crashes_here": crash.count, "error": error})
            raise cause
        if culprit is not None:
            where = {"topic": culprit.topic, "partition": culprit.partition, "offset": int(culprit.offsets[0])}
            log.error("quarantined", extra={**where, "error": error})
            self._owed[running.partition] = (culprit, f"crashed the task {self._crash_limit} times: {error}")
        return culprit

    def passed(self, inputs: Sequence[Records], committed: Iterable[int]) -> None:
        """Take note of a step that went well, and of the tasks that committed in it."""
        done = set(committed)
        for partition in done:
            self._owed.pop(partition, None)
        last = self._crashes.last
        if self._isolation is not None:
            if self._isolation.passed(inputs):
                self._isolation = None
                self._crashes.clear()
        elif last is not None and last.partition in done:
            self._crashes.clear()
