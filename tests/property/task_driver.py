"""Drives one task as the runner does, by the contract of `Task`, with records in portions of any size and restarts anywhere.

There are no transactions here, so that a record's offset is its place in its topic: outputs of different portions can be held against each other,
byte by byte. What transactions add is tried elsewhere (`test_runner_exactly_once`, `test_fused`, `test_trainings`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from campaigns.simulate.lake import MemoryLake
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.log.flow import Flow
from tidemill.shared.log.packed import packed_or_list
from tidemill.shared.log.records import Emission, Records, StateEntry, Step, TopicPartition
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.runner.progress import Progress, RecordCodecPort
from tidemill.shared.runner.task import StepContext, Task, TaskInputs

Written = dict[str, list[tuple[bytes | None, bytes | None, int]]]

# More than a training takes.
_QUIET_STEPS = 6


@dataclass
class Driver:
    """One task, its inputs, and what it has written.

    Attributes
    ----------
    make
        Makes the task, empty.
    logs
        Holds the inputs.
    codec, said
        Of progress records, and those that the steps have written; None: they write none.
    restart, rebuild
        Chance of a restart after a step, and that the checkpoint is of other versions then.
    first
        Inputs of which all is read before anything else: a task acts on them when they come, and not at an instant of the journal.
    decoders
        Of outputs that are handed on beside their records, by topic.
    handed
        Rows of them that were compared with what their records decode to.
    """

    stage: str
    inputs: TaskInputs
    make: Callable[[], Task]
    logs: MemoryBroker
    rng: np.random.Generator
    lake: MemoryLake
    portion: int = 1
    restart: float = 0.0
    rebuild: float = 0.0
    budget_bytes: int = 2_000
    first: Sequence[str] = ()
    decoders: Mapping[str, ColumnDecoder] = field(default_factory=dict)
    handed: int = 0
    codec: RecordCodecPort | None = None
    said: list[tuple[bytes | None, bytes | None, int]] = field(default_factory=list)
    written: Written = field(default_factory=dict)
    progress: Progress = field(init=False)
    restarts: int = 0

    def __post_init__(self) -> None:
        self.progress = Progress(self.stage, 0)
        self._state: list[StateEntry] = []
        self._flows: Mapping[str, Flow] = {}
        self._reading: dict[TopicPartition, int] = {}
        self._now_ms = 0

    def run(self) -> None:
        """Give the task everything, then steps without input until nothing changes."""
        task = self._begun()
        while (inputs := self._next()) is not None:
            self._step(task, inputs)
            if self.rng.random() < self.restart:
                task = self._begun()
                self.restarts += 1
        quiet = 0
        while quiet < _QUIET_STEPS:
            before = self._stand()
            self._step(task, [])
            quiet = quiet + 1 if self._stand() == before else 0
        self._step(task, [], stopping=True)

    def _stand(self) -> tuple[int, int, int]:
        return self.progress.covered_time, len(self._state), sum(map(len, self.written.values()))

    def _next(self) -> list[Records] | None:
        """Return some of the records that are left, of one input or of several; None when there are none."""
        left = {place: end - self._reading.get(place, 0) for place, end in self._ends().items() if end > self._reading.get(place, 0)}
        places = [place for place in left if place.topic in self.first] or list(left)
        if not places:
            return None
        batches = []
        chosen = [places[int(self.rng.integers(len(places)))]] if self.portion == 1 else [one for one in places if self.rng.random() < 0.7]
        for place in chosen:
            begin = self._reading.get(place, 0)
            end = min(begin + int(self.rng.integers(1, self.portion + 1)), begin + left[place])
            batches += list(self._read(place, begin, end))
            self._reading[place] = end
        return batches

    def _step(self, task: Task, inputs: Sequence[Records], stopping: bool = False) -> None:
        self._now_ms += 10
        ends = {TopicPartition(topic, 0): len(self.written.get(topic, ())) for topic in self.inputs.restores_from_outputs}
        step = task.process(inputs, StepContext(self._now_ms, output_ends=ends, stopping=stopping))
        checkpoint = task.checkpoint(self.budget_bytes)
        for emission in step.emissions:
            self._compare_with_what_is_handed_on(emission)
            times = [0] * len(emission) if emission.timestamps_ms is None else emission.timestamps_ms.tolist()
            self.written.setdefault(emission.topic, []).extend(zip(emission.keys, emission.values, times, strict=True))
        self._state += checkpoint.entries
        self._flows = step.flows or {}
        self._follow(task, step, dict(checkpoint.marker))
        task.committed()

    def _compare_with_what_is_handed_on(self, emission: Emission) -> None:
        decoder = self.decoders.get(emission.topic)
        if decoder is not None:
            decoded, handed = decoder.decode(emission.values), emission.columns
            assert isinstance(handed, pa.RecordBatch) and handed.schema == decoder.arrow and not decoded.errors
            # As text: a NaN is no other NaN, and -0.0 is not 0.0.
            assert repr(handed.to_pylist()) == repr(decoded.batch.to_pylist())
            self.handed += len(emission)

    def _follow(self, task: Task, step: Step, marker: dict[TopicPartition, int]) -> None:
        before = self.progress
        self.progress = Progress(
            self.stage, 0, sequence=before.sequence + 1, input_offsets={**before.input_offsets, **step.positions},
            covered_offset=step.coverage.offset, covered_time=step.coverage.time_ms,
            outputs={topic: len(rows) for topic, rows in self.written.items()},
            checkpoint_marker=marker or before.checkpoint_marker, deployment_sequence=step.deployment_sequence, versions=task.versions(),
        )  # fmt: skip
        if self.codec is not None:
            self.said.append((b"0", self.progress.encode(self.codec), 0))

    def _begun(self) -> Task:
        """Bring a task back from its checkpoint and the log, or, as after a change of versions, from the log alone."""
        if self.rng.random() < self.rebuild:
            self._state, self.progress = [], replace(self.progress, checkpoint_marker={})
        task, progress = self.make(), self.progress
        latest: dict[bytes, bytes] = {}
        for run in self._runs():
            if task.load(packed_or_list([entry.key for entry in run]), packed_or_list([entry.value for entry in run])):
                continue
            for entry in run:
                latest.pop(entry.key, None)
                if entry.value is not None:
                    latest[entry.key] = entry.value
        task.restore([StateEntry(key, value) for key, value in latest.items()])
        task.resume(progress.input_offsets, progress.outputs, progress.covered_offset, progress.covered_time)
        task.take_over(progress.versions)
        task.take_flows(self._flows)
        if self.inputs.restores_from_outputs:
            for topic in self.inputs.restores_from_outputs:
                place = TopicPartition(topic, 0)
                own = self._own(topic)[progress.checkpoint_marker.get(place, 0) :]
                if len(own):
                    task.replay([own])
        else:
            places = [place for place in self._ends() if progress.checkpoint_marker.get(place, 0) < progress.input_offsets.get(place, 0)]
            again = [
                records for place in places for records in self._read(place, progress.checkpoint_marker.get(place, 0), progress.input_offsets[place])
            ]
            if again:
                task.replay(again)
        self._reading = dict(progress.input_offsets)
        return task

    def _runs(self) -> Iterator[list[StateEntry]]:
        """Give the checkpoint's log, cut anywhere."""
        begin = 0
        while begin < len(self._state):
            end = begin + int(self.rng.integers(1, 200))
            yield self._state[begin:end]
            begin = end

    def _own(self, topic: str) -> Records:
        rows = self.written.get(topic, [])
        n = len(rows)
        return Records(
            topic, 0, np.arange(n), np.array([at for _, _, at in rows], np.int64), [key for key, _, _ in rows], [one for _, one, _ in rows]
        )

    def _ends(self) -> dict[TopicPartition, int]:
        topics = (*self.inputs.partitioned, *self.inputs.broadcast)
        return {place: self.logs.log(place).end for place in (TopicPartition(topic, 0) for topic in topics)}

    def _read(self, place: TopicPartition, begin: int, end: int) -> Iterator[Records]:
        reader = self.logs.reader()
        yield from reader.read(place, begin, end)
        reader.close()
