"""What is known of crashes across restarts, in a small file: for each task where it crashed, how often, and how far the search has come."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.atomic_file import replace_text

log = logging.getLogger(__name__)
# End of a search that goes on until the task has read everything.
EVERYTHING = "*"
# The place of a crash in which a task had no position yet.
RESTORING = {TopicPartition("restoring", 0): 0}


@dataclass(frozen=True, slots=True)
class Span:
    """The input records of a step: how many, and first and last offset per input, by ``topic:partition``."""

    records: int
    begins: Mapping[str, int]
    ends: Mapping[str, int]

    @property
    def most(self) -> dict[str, int]:
        """How many records at most came from each input: offsets have gaps."""
        return {name: min(self.records, end - self.begins[name] + 1) for name, end in self.ends.items()}


@dataclass(frozen=True, slots=True)
class Crash:
    """A task's crash that has not been passed yet, and the search for its cause.

    Attributes
    ----------
    partition
        Of the task.
    place
        Committed positions of the task, by ``topic:partition``.
    count
        Crashes at this place or on records of the same span, or since the search began.
    records, begins, most
        Input records of the step that crashed last: how many, and per input, by ``topic:partition``, the first offset and the number at most.
    ends
        Last offset under suspicion per input, by ``topic:partition``; `EVERYTHING` when the search goes on to the end of the inputs.
    native
        True when the process ended without an exception (a signal, out of memory, a hang).
    limit
        Records per step while the search goes on; 0 before it has begun.
    muted
        True when the task crashes without input: it is called with input only.
    suspended
        Times that the task was set aside for a while, since no record explains its crash.
    steady
        Records that a restored task is given in steps of `limit` before they grow: it may have to read so many again to be where it crashed.
    singles
        Deaths without exception in a step of this search that had a single record.
    in_child
        Whether children are given records before the task itself is: it ended the process without an exception.
    held, step
        Of trials (`Trials`): last offset per input that the task had been given before the step that crashed, and in it.
    low, high, trial
        Of trials: the task survives with `low` - 1 of the held records (0: not known) and crashes with `high`; `trial` is being tried. -1 where
        there is none.
    tries
        Times that the same trial has ended the process.
    """

    partition: int
    place: Mapping[str, int]
    count: int
    records: int
    ends: Mapping[str, int]
    error: str
    native: bool = False
    limit: int = 0
    muted: bool = False
    suspended: int = 0
    steady: int = 0
    singles: int = 0
    in_child: bool = False
    held: Mapping[str, int] = field(default_factory=dict)
    step: Mapping[str, int] = field(default_factory=dict)
    low: int = -1
    high: int = -1
    trial: int = -1
    tries: int = 0
    begins: Mapping[str, int] = field(default_factory=dict)
    most: Mapping[str, int] = field(default_factory=dict)

    @property
    def restoring(self) -> bool:
        """Whether the task crashed while it was brought back."""
        return self.place == as_text(RESTORING)

    @property
    def searching(self) -> bool:
        """Whether the culprit is being looked for."""
        return self.limit > 0 or self.on_trial

    @property
    def on_trial(self) -> bool:
        """Whether trials are to tell who did it."""
        return self.low >= 0

    def passed_by(self, positions: Mapping[TopicPartition, int]) -> bool:
        """Whether a task with these committed positions has left everything under suspicion behind."""
        reached = as_text(positions)
        return EVERYTHING not in self.ends and bool(self.ends) and all(reached.get(name, 0) > end for name, end in self.ends.items())

    def meets(self, step: Span) -> bool:
        """Whether a step had records of the one that crashed.

        A task that reads ahead of what it commits comes back to its culprit from a later position each time: its place alone would never be the same.
        """
        shared = self.ends.keys() & step.ends.keys()
        return any(step.begins[name] <= self.ends[name] and self.begins.get(name, self.ends[name]) <= step.ends[name] for name in shared)

    def had(self, record: Records) -> bool:
        """Whether the step that crashed last had a record, a batch of one; not said of one behind a gap in the offsets."""
        first, offset = self.begins.get(f"{record.topic}:{record.partition}"), int(record.offsets[0])
        return first is not None and first <= offset < first + self.records


@dataclass(slots=True)
class CrashLog:
    """The crashes of one stage's tasks on one instance; the file goes when there are none.

    A file that cannot be read (a torn disk) is set aside, since counting anew costs a few restarts and not starting costs everything. One that cannot
    be written costs the memory of the next process: it is reported and the process goes on.

    Attributes
    ----------
    path
        Its folder is made when needed.
    narrowed
        Called when a search has come further, for the supervisor: a process that crashes but narrows a search is not stuck.
    """

    path: Path
    narrowed: Callable[[], None] = lambda: None
    _crashes: dict[int, Crash] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
            self._crashes = {crash.partition: crash for crash in (Crash(**entry) for entry in document["crashes"])}
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError) as problem:
            log.error("the crash log cannot be read, counting anew", extra={"path": str(self.path), "error": str(problem)})
            try:
                self.path.replace(self.path.with_name(f"{self.path.name}.unreadable"))
            except OSError as second:
                log.error("it cannot be set aside either", extra={"path": str(self.path), "error": str(second)})

    def __iter__(self) -> Iterator[Crash]:
        return iter(self._crashes.values())

    def __len__(self) -> int:
        return len(self._crashes)

    def of(self, partition: int) -> Crash | None:
        """Return what is known of a task's crashes."""
        return self._crashes.get(partition)

    def count(self, partition: int, place: Mapping[TopicPartition, int], step: Span, error: str, native: bool = False) -> Crash:
        """Write down a crash; it adds to those before when it happened at the same place, or on records of the same step."""
        before, here = self._crashes.get(partition), as_text(place)
        again = before if before is not None and (before.searching or before.place == here or before.meets(step)) else None
        crash = replace(again, place=here, count=again.count + 1) if again is not None else Crash(partition, here, 1, step.records, step.ends, error)
        keep = again is not None and again.searching
        ends = {**step.ends, **again.ends} if keep and again is not None else step.ends
        self.put(replace(crash, records=step.records, begins=step.begins, most=step.most, ends=ends, error=error, native=native))
        return self._crashes[partition]

    def put(self, crash: Crash, narrowed: bool = False) -> None:
        """Write down what a search has come to."""
        self._crashes[crash.partition] = crash
        self._write()
        if narrowed:
            self.narrowed()

    def clear(self, partition: int) -> None:
        """Forget a crash: its place has been passed."""
        if self._crashes.pop(partition, None) is not None:
            self._write()
            self.narrowed()

    def _write(self) -> None:
        try:
            if self._crashes:
                replace_text(self.path, json.dumps({"crashes": [asdict(crash) for crash in self._crashes.values()]}))
            else:
                self.path.unlink(missing_ok=True)
        except OSError as problem:
            log.error("the crash log cannot be written", extra={"path": str(self.path), "error": str(problem)})


def as_text(offsets: Mapping[TopicPartition, int]) -> dict[str, int]:
    """Offsets by ``topic:partition``, sorted."""
    return {f"{topic}:{partition}": int(offset) for (topic, partition), offset in sorted(offsets.items())}


def span_of(inputs: Sequence[Records]) -> Span:
    """Return the input records of a step as a span."""
    begins = {f"{records.topic}:{records.partition}": int(records.offsets[0]) for records in reversed(inputs) if len(records)}
    return Span(sum(map(len, inputs)), begins, ends_of(inputs))


def ends_of(inputs: Sequence[Records]) -> dict[str, int]:
    """Last offset per input of a step, by ``topic:partition``."""
    return {f"{records.topic}:{records.partition}": int(records.offsets[-1]) for records in inputs if len(records)}
