"""A task at work: what it is given, what a step changes, and what its next progress record says."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from shared.streaming.dead_letters import DeadLetters
from shared.streaming.layout import Layout
from shared.streaming.progress import Progress, RecordCodecPort, checkpoint_topic, progress_topic
from shared.streaming.records import Emission, Records, StateEntry, TopicPartition
from shared.streaming.state_parts import StateParts
from shared.streaming.task import StepContext, Task

Address = tuple[str, int, int]


@runtime_checkable
class SkipsRecords(Protocol):
    """A task that must know of records it is not given (a merge counts them)."""

    def skipped(self, topic: str, partition: int, offsets: NDArray[np.int64]) -> None:
        """Learn that these records were quarantined; called before `process` or `replay`."""
        ...


@runtime_checkable
class LearnsVersions(Protocol):
    """A task that must know which versions were at work before it."""

    def take_over(self, before: Mapping[str, str]) -> None:
        """Learn what the last progress record says of them (nothing at the very first start); called after `resume`."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one step of one task asks to be committed; `record` is its progress record."""

    emissions: Sequence[Emission]
    progress: Progress
    changed: bool
    group_offsets: dict[TopicPartition, int]
    record: Emission
    read: int
    refused: int
    checkpoint_bytes: int = 0
    flagged: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(slots=True)
class RunningTask:
    """One task, its last committed progress, and what is still owed to the log.

    Attributes
    ----------
    parts
        Cuts entries of the checkpoint that are larger than a record may be.
    stale_keys
        Keys of a checkpoint that another version wrote; deleted with the first commit.
    owed
        Records to quarantine with the next commit, and why.
    reading
        Next offset to be given, per input.
    """

    partition: int
    task: Task
    progress: Progress
    layout: Layout
    dead_letters: DeadLetters
    codec: RecordCodecPort
    instance: str
    parts: StateParts = field(default_factory=StateParts)
    stale_keys: Sequence[bytes] = ()
    owed: list[tuple[Records, str]] = field(default_factory=list)
    checkpoint_due_ms: int = 0
    reading: dict[TopicPartition, int] = field(default_factory=dict)

    def unread(self, records: Records) -> list[Records]:
        """What of a run this task has not been given yet: broadcast inputs are read from the slowest task's position."""
        address = TopicPartition(records.topic, records.partition)
        begin = int(np.searchsorted(records.offsets, self.reading.get(address, 0)))
        if begin == len(records):
            return []
        self.reading[address] = int(records.offsets[-1]) + 1
        return [records[begin:]]

    def process(self, inputs: Sequence[Records], context: StepContext, checkpoint_interval_ms: int, checkpoint_bytes: int) -> Outcome:
        """Run one step of the task; nothing is committed yet."""
        quarantined = self.progress.quarantined | {(record.topic, record.partition, int(record.offsets[0])) for record, _ in self.owed}
        step = self.task.process(given(inputs, quarantined, self.task), context)
        letters = [
            self.dead_letters.emission(record, self.partition, "quarantined", detail, self.progress.covered_time) for record, detail in self.owed
        ]
        emissions = [emission for emission in [*step.emissions, *letters] if len(emission)]
        produced = Counter(dict(self.progress.outputs))
        for emission in emissions:
            produced[emission.topic] += len(emission)
        share, marker = self._checkpoint(context.now_ms, checkpoint_interval_ms, checkpoint_bytes)
        progress = replace(
            self.progress,
            instance=self.instance,
            sequence=self.progress.sequence + 1,
            input_offsets={**self.progress.input_offsets, **step.positions},
            covered_offset=step.coverage.offset,
            covered_time=step.coverage.time_ms,
            outputs=dict(produced),
            checkpoint_marker=marker,
            deployment_sequence=step.deployment_sequence,
            versions=dict(self.task.versions()),
            quarantined=quarantined,
            group=self.layout.group,
        )
        before = self.progress
        unchanged = replace(progress, instance=before.instance, sequence=before.sequence, group=before.group) == before
        grouped = set(self.layout.grouped(self.partition))
        taken_over = before.group != self.layout.group
        moved = {
            partition: offset
            for partition, offset in progress.input_offsets.items()
            if partition in grouped and (taken_over or offset != before.input_offsets.get(partition))
        }
        changed = bool(emissions or share) or not unchanged
        return Outcome(
            [*emissions, *share],
            progress,
            changed,
            moved,
            self._record(progress) if changed else Emission(progress_topic(self.layout.app, self.layout.stage), self.partition, [], []),
            sum(len(records) for records in inputs if records.topic in self.layout.inputs.partitioned),
            sum(len(emission) for emission in emissions if emission.topic == self.dead_letters.topic),
            sum(len(value or b"") for emission in share for value in emission.values),
            step.flagged,
        )

    def _record(self, progress: Progress) -> Emission:
        return Emission(progress_topic(self.layout.app, self.layout.stage), self.partition, [progress.key], [progress.encode(self.codec)])

    def accept(self, outcome: Outcome) -> None:
        """Take note that an outcome is committed."""
        self.progress = outcome.progress
        self.stale_keys = ()
        self.owed = []

    def _checkpoint(self, now_ms: int, interval_ms: int, size_bytes: int) -> tuple[list[Emission], dict[TopicPartition, int]]:
        topic = checkpoint_topic(self.layout.app, self.layout.stage)
        entries = [StateEntry(key, None) for key in self.stale_keys]
        marker = dict(self.progress.checkpoint_marker)
        if now_ms >= self.checkpoint_due_ms:
            self.checkpoint_due_ms = now_ms + interval_ms
            checkpoint = self.task.checkpoint(size_bytes)
            entries += self.parts.cut(checkpoint.entries)
            marker = dict(checkpoint.marker) or marker
        return ([Emission(topic, self.partition, [entry.key for entry in entries], [entry.value for entry in entries])] if entries else []), marker


def given(inputs: Iterable[Records], quarantined: frozenset[Address] | set[Address], task: Task) -> list[Records]:
    """Inputs without quarantined records, which the task is told of."""
    kept: list[Records] = []
    for records in inputs:
        offsets = [offset for topic, partition, offset in quarantined if (topic, partition) == (records.topic, records.partition)]
        gone = np.flatnonzero(np.isin(records.offsets, offsets)) if offsets else np.empty(0, np.int64)
        begin = 0
        for row in [*gone.tolist(), len(records)]:
            if row > begin:
                kept.append(records[begin:row])
            begin = row + 1
        if len(gone) and isinstance(task, SkipsRecords):
            task.skipped(records.topic, records.partition, records.offsets[gone])
    return kept


TaskFactory = Callable[[int], Task]
