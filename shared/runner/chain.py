"""The stages of one process on one partition: the first reads Kafka, each other one what those before it write in the same transaction."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tidemill.shared.log.broker import Reader
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import Emission, Records, TopicPartition
from tidemill.shared.runner.crash_verdicts import CrashVerdicts
from tidemill.shared.runner.death_note import DeathNote
from tidemill.shared.runner.death_verdicts import DeathVerdicts
from tidemill.shared.runner.restore import Restore
from tidemill.shared.runner.running_task import RunningTask, StepOutcome
from tidemill.shared.runner.stage_topics import StageTopics
from tidemill.shared.runner.task import StepContext
from tidemill.shared.runner.trials import CrashTrials


@dataclass(frozen=True, slots=True)
class Work:
    """One step of one task: what it was given, and what came of it."""

    stage: int
    running: RunningTask
    inputs: Sequence[Records]
    outcome: StepOutcome


class TaskCrashedError(Exception):
    """A task raised; carries to the loop which one, on what, and why; `follows` says that the inputs are written in the same step."""

    def __init__(self, stage: int, running: RunningTask, inputs: Sequence[Records], cause: BaseException, follows: bool) -> None:
        super().__init__(running.partition)
        self.follows = follows
        self.stage = stage
        self.running = running
        self.inputs = inputs
        self.cause = cause


@dataclass(frozen=True, slots=True)
class LinkedStage:
    """One stage of the chain at work: its topics in the cluster, how its tasks are restored, and what is known of their crashes."""

    topics: StageTopics
    restore: Restore
    verdicts: CrashVerdicts
    deaths: DeathVerdicts
    trials: CrashTrials


class Chain:
    """Runs the tasks of its stages one after the other within a step.

    A record that a later stage reads has its offset before it is written: this process is the only writer of its partition, so the record goes to
    the end of the log. The sink is told (`Emission.first_offset`) and refuses to commit when it was wrong, which can only be after somebody else
    wrote there (a predecessor's abort marker, a zombie): then the step is undone, and the end is looked up again.

    A stage that is behind what is in the log (another topology ran before, or its last step crashed) catches up from there first: see `backlog`.

    Parameters
    ----------
    links
        The stages in order. A chain of one is a stage by itself.
    """

    def __init__(self, links: Sequence[LinkedStage], reader: Reader, max_batch: int, note: DeathNote) -> None:
        self._links = links
        self._reader = reader
        self._max_batch = max_batch
        self._note = note
        self._left_out: set[tuple[int, int]] = set()
        self._read_first: dict[TopicPartition, int] = {}
        self._inner = frozenset(topic for link in links[1:] for topic in link.topics.inputs.partitioned)
        self._own = links[0].topics.inputs.restores_from_outputs
        self._placed = self._inner | frozenset(self._own)
        self._ends: dict[TopicPartition, int] = {}
        self._progress: frozenset[TopicPartition] = frozenset()
        self.tasks: dict[int, list[RunningTask]] = {}

    def take_up(self, tasks: dict[int, list[RunningTask]]) -> None:
        """Begin with tasks as they were restored: the next progress record of each has its place (`tidemill.shared.runner.ownership`)."""
        self.tasks = tasks
        self._ends = {TopicPartition(one.topics.progress, one.partition): one.end for chain in tasks.values() for one in chain}
        self._progress = frozenset(self._ends)
        self._read_first = {place: self._reader.stable_end(place) for link in self._links if tasks for place in link.topics.read_first()}

    def drop(self) -> None:
        """Forget all tasks."""
        self.tasks = {}
        self._ends = {}
        self._left_out = set()
        self._read_first = {}

    @property
    def is_behind(self) -> bool:
        """Whether stages may have to read on in the log (`backlog`) before they read what is new."""
        return bool(self.tasks) and (len(self._links) > 1 or bool(self._read_first))

    @property
    def output_ends(self) -> Mapping[TopicPartition, int]:
        """Where the logs end that tasks of the first stage restore from, as of the last commit."""
        return {
            place: self._ends[place] for partition in self.tasks for topic in self._own if (place := TopicPartition(topic, partition)) in self._ends
        }

    def find_ends(self) -> None:
        """Look up where the logs end that the first stage restores from: like what later stages read, its records have places there."""
        for partition in self.tasks:
            for topic in self._own:
                place = TopicPartition(topic, partition)
                self._ends[place] = self._reader.watermarks(place)[1]

    def shares(self, inputs: Sequence[Records]) -> dict[int, dict[int, list[Records]]]:
        """Say who is given what of the records from Kafka: by partition and stage."""
        shares: dict[int, dict[int, list[Records]]] = {partition: {} for partition in self.tasks}
        for records in inputs:
            for stage, link in enumerate(self._links):
                if records.topic in link.topics.inputs.broadcast or (stage == 0 and records.topic in link.topics.inputs.partitioned):
                    for partition in link.topics.readers(TopicPartition(records.topic, records.partition), self.tasks):
                        if stage < len(self.tasks.get(partition, ())) and records.topic not in self.tasks[partition][stage].progress.paused:
                            shares[partition].setdefault(stage, []).extend(self.tasks[partition][stage].unread(records))
        return shares

    def reading(self) -> dict[TopicPartition, int]:
        """Where to read on in Kafka: per input the least position of the tasks that take it; what all of them have paused is left out."""
        positions: dict[TopicPartition, int] = {}
        for partition, chain in self.tasks.items():
            for link, running in zip(self._links, chain, strict=False):
                inner, paused = set(link.topics.inner(partition)), running.progress.paused
                for place, position in running.reading.items():
                    if place not in inner and place.topic not in paused:
                        positions[place] = min(position, positions.get(place, position))
        return positions

    def positions(self) -> dict[TopicPartition, int]:
        """How far all inputs have been given to tasks, those that later stages read of this process included: the least position of each place."""
        positions: dict[TopicPartition, int] = {}
        for running in (running for chain in self.tasks.values() for running in chain):
            for place, position in running.reading.items():
                if place.topic not in running.progress.paused:
                    positions[place] = min(position, positions.get(place, position))
        return positions

    def advance(
        self, partition: int, first: int, given: Mapping[int, Sequence[Records]], context: StepContext, interval_ms: int, size_bytes: int
    ) -> Iterator[Work]:
        """Make one step of the stages of a partition from `first` on, one with each turn; nothing is committed yet.

        A stage that looks for the record that crashes it is left out, with those behind it: it reads from the log what this step writes.

        Raises
        ------
        TaskCrashedError
            A task raised anything but TransientError.
        """
        written: list[Records] = []
        places = dict(self._ends)
        for stage in range(first, len(self.tasks[partition])):
            running, link = self.tasks[partition][stage], self._links[stage]
            if stage > first and link.verdicts.searching(partition):
                self._left_out.add((partition, stage))
                break
            inputs = [*given.get(stage, ()), *(records for records in written if records.topic in link.topics.inputs.partitioned)]
            if not any(map(len, inputs)) and link.verdicts.muted(partition):
                continue
            running.begin()
            self._note.begin(stage, partition, running.progress.sequence, inputs, running.given_before() if running.holding else None)
            try:
                outcome = running.process(inputs, context, interval_ms, size_bytes)
            except BaseException as problem:
                self._note.done()
                raise TaskCrashedError(stage, running, inputs, problem, stage > first) from problem
            self._note.done()
            if outcome.changed:
                running.require_declared(outcome)
                # The progress record has to get the place that follows from what was restored: somebody else has written, otherwise.
                emissions = [self._place(emission, places, written) for emission in outcome.emissions] if self._placed else outcome.emissions
                outcome = replace(outcome, emissions=emissions, record=self._place(outcome.record, places, written))
            running.passed(inputs)
            yield Work(stage, running, inputs, outcome)

    def committed(self, ends: Mapping[TopicPartition, int]) -> bool:
        """Take note of a commit and of where the logs end now; True when a stage was left out and has to catch up."""
        self._ends.update(ends)
        left_out, self._left_out = self._left_out, set()
        for partition, first in left_out:
            for stage in range(first, len(self.tasks[partition])):
                self._links[stage].verdicts.search_backlog(partition)
        return bool(left_out)

    def backlog(self) -> Iterator[tuple[int, int, Records]]:
        """Give what stages have to read of the log before they read what is new, as (partition, stage, records); then the ends are known.

        What decides how other inputs are answered comes first (`TaskInputs.read_first`), to the end that it had when the tasks were taken up. Then
        comes what later stages have not read yet, the last stage first.
        """
        yield from self._first_inputs()
        for partition, chain in self.tasks.items():
            for link in self._links[len(chain) :]:
                self._ends.update({place: self._reader.watermarks(place)[1] for place in link.topics.inner(partition)})
            for stage in range(len(chain) - 1, 0, -1):
                for place in self._links[stage].topics.inner(partition):
                    position = chain[stage].reading[place]
                    while position < (end := self._reader.watermarks(place)[1]):
                        for records in self._reader.read(place, position, end):
                            # Claims say nothing to a stage: a step of them alone would be taken for an advance.
                            claims = place in self._progress and all(value is None for value in records.values)
                            begin = len(records) if claims else 0
                            while begin < len(records):
                                size = self._links[stage].verdicts.limit(partition, self._max_batch)
                                yield partition, stage, records[begin : begin + size]
                                begin += size
                        position = end
                    if place in self._progress and end != self._ends[place]:
                        expected = f"{place.topic}:{place.partition}: expected the log to end at {self._ends[place]}"
                        raise TransientError(f"{expected}, it ends at {end}: another process has taken the task over since it was restored here")
                    chain[stage].reading[place] = self._ends[place] = end
                self._links[stage].verdicts.drained(partition, self._links[stage].topics.inner(partition))

    def _first_inputs(self) -> Iterator[tuple[int, int, Records]]:
        """Give all tasks what they read first, by one reading of the log for all of them."""
        for place in list(self._read_first):
            readers = [
                (partition, stage, chain[stage])
                for partition, chain in self.tasks.items()
                for stage, link in enumerate(self._links[: len(chain)])
                if place.topic in link.topics.inputs.read_first
            ]
            position, end = min((running.reading[place] for _, _, running in readers), default=0), self._read_first[place]
            # The end lies before any transaction that was open when it was looked up: nobody is waited for.
            runs = list(self._reader.read(place, position, end)) if readers and position < end else []
            for records in runs:
                for partition, stage, running in readers:
                    for piece in running.unread(records):
                        yield partition, stage, piece
            del self._read_first[place]

    def _place(self, emission: Emission, places: dict[TopicPartition, int], written: list[Records]) -> Emission:
        """Give an emission its place when a later stage reads it, or the stage itself after a restart, or when it is a progress record."""
        place, n = TopicPartition(emission.topic, emission.partition), len(emission)
        if emission.topic not in self._placed:
            return replace(emission, first_offset=self._ends[place]) if place in self._progress else emission
        first = places[place]
        places[place] = first + n
        times = emission.timestamps_ms if emission.timestamps_ms is not None else np.zeros(n, np.int64)
        written.append(Records(*place, np.arange(first, first + n), times, emission.keys, emission.values, emission.columns))
        return replace(emission, first_offset=first)
