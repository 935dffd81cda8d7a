"""A task at work: what it is given, what a step changes, and what its next progress record says."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tidemill.shared.log.flood import FloodLimits, Refusals
from tidemill.shared.log.records import Emission, Records, StateEntry, TopicPartition
from tidemill.shared.runner.dead_letters import DeadLetters
from tidemill.shared.runner.progress import Progress, RecordCodecPort, checkpoint_topic, progress_topic
from tidemill.shared.runner.quarantine import Address, Quarantined, Withheld, given, verdict_key
from tidemill.shared.runner.stage_topics import StageTopics
from tidemill.shared.runner.state_parts import StateParts
from tidemill.shared.runner.task import StepContext, Task
from tidemill.shared.runner.written import LastOutputs


class UndeclaredOutputError(RuntimeError):
    """A step writes to a topic that its stage has not declared (crash: a fault of the code)."""


@dataclass(frozen=True, slots=True)
class StepOutcome:
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
    quarantined: Quarantined = field(default_factory=Quarantined)


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
    quarantined
        Every record set aside so far.
    unwritten
        Verdicts that the checkpoint topic does not hold yet (an older version kept them in the progress record only).
    withheld
        Of a trial: offsets [begin, end) per input that are passed over.
    limits
        Beyond which refused records are a flood.
    handed, kept
        Behind the last record that the task was given, in all and in its last step, per input.
    holding
        Whether the task, when its last step began, held back records that earlier steps had given it.
    writer
        Transactional id of this process.
    end
        Offset that the next progress record gets, see `tidemill.shared.runner.ownership`.
    recovered
        Offsets that the group had lost, or of which it had older ones, and that the next commit gives it again.
    end_of
        Looks up where a log ends, of a place that this process has not written to yet.
    marks
        An offset per place written to that all earlier transactions of the task stand before.
    topic_ids
        Of the topics that the task reads and writes.
    """

    partition: int
    task: Task
    progress: Progress
    topics: StageTopics
    dead_letters: DeadLetters
    codec: RecordCodecPort
    instance: str
    parts: StateParts = field(default_factory=StateParts)
    stale_keys: Sequence[bytes] = ()
    owed: list[tuple[Records, str]] = field(default_factory=list)
    checkpoint_due_ms: int = 0
    reading: dict[TopicPartition, int] = field(default_factory=dict)
    writer: str = ""
    end: int = 0
    recovered: Mapping[TopicPartition, int] = field(default_factory=dict)
    end_of: Callable[[TopicPartition], int] = lambda place: 0
    marks: dict[TopicPartition, int] = field(default_factory=dict)
    topic_ids: Mapping[str, str] = field(default_factory=dict)
    quarantined: Quarantined = field(default_factory=Quarantined)
    unwritten: Sequence[Address] = ()
    withheld: Withheld = field(default_factory=dict)
    holding: bool = False
    limits: FloodLimits = field(default_factory=FloodLimits)
    handed: dict[TopicPartition, int] = field(default_factory=dict)
    kept: dict[TopicPartition, int] = field(default_factory=dict)

    def stand_at(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read on from here."""
        self.reading = dict(positions)
        self.handed = {place: position for place, position in positions.items() if not place.topic.endswith("-progress")}

    def begin(self) -> None:
        """Note whether earlier steps have left records that are held back: a crash may come of those."""
        known = self.progress.input_offsets
        self.holding = any(known.get(place, position) < position for place, position in self.handed.items())

    def given_before(self) -> dict[TopicPartition, int]:
        """Last offset per input that earlier steps have given the task."""
        return {place: self.handed.get(place, position) - 1 for place, position in self.reading.items()}

    def passed(self, inputs: Sequence[Records]) -> None:
        """Note that the task was given a step's inputs and did not crash."""
        for records in inputs:
            place, end = TopicPartition(records.topic, records.partition), int(records.offsets[-1]) + 1
            self.reading[place] = end
            if place in self.handed:
                # What was set aside at the end of a run moves no position of the task: that is not to be taken for holding back.
                self.handed[place] = self.kept.get(place, self.handed[place])

    def unread(self, records: Records) -> list[Records]:
        """What of a run this task has not been given yet: broadcast inputs are read from the slowest task's position."""
        address = TopicPartition(records.topic, records.partition)
        begin = int(np.searchsorted(records.offsets, self.reading.get(address, 0)))
        if begin == len(records):
            return []
        self.reading[address] = int(records.offsets[-1]) + 1
        return [records[begin:]]

    def process(self, inputs: Sequence[Records], context: StepContext, checkpoint_interval_ms: int, checkpoint_bytes: int) -> StepOutcome:
        """Run one step of the task; nothing is committed yet."""
        condemned = [(record.topic, record.partition, int(record.offsets[0])) for record, _ in self.owed]
        quarantined = self.quarantined | condemned
        kept = given(inputs, quarantined, self.task, self.withheld)
        self.kept = {TopicPartition(records.topic, records.partition): int(records.offsets[-1]) + 1 for records in kept}
        step = self.task.process(kept, context)
        letters = [
            self.dead_letters.emission(record, self.partition, "quarantined", detail, self.progress.covered_time) for record, detail in self.owed
        ]
        emissions = [emission for emission in [*step.emissions, *letters] if len(emission)]
        produced = Counter(dict(self.progress.outputs))
        for emission in emissions:
            produced[emission.topic] += len(emission)
        read = sum(len(records) for records in inputs if records.topic in self.topics.inputs.partitioned)
        refused = sum(len(emission) for emission in emissions if emission.topic == self.dead_letters.topic)
        share, marker = self._checkpoint(context.now_ms, checkpoint_interval_ms, checkpoint_bytes, [*self.unwritten, *condemned])
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
            quarantined=quarantined.newest(),
            group=self.topics.group,
            refusals=self.progress.refusals.after(read, refused, self.limits) if step.flows is None else Refusals(),
            flows=step.flows or {},
            writer=self.writer,
            written=self._written(emissions, share),
            topic_ids=self.topic_ids,
        )
        before = self.progress
        who_and_where = replace(progress, instance=before.instance, sequence=before.sequence, group=before.group, writer=before.writer)
        unchanged = replace(who_and_where, topic_ids=before.topic_ids) == before
        grouped = set(self.topics.grouped(self.partition))
        taken_over = before.group != self.topics.group
        moved = {
            partition: offset
            for partition, offset in progress.input_offsets.items()
            if partition in grouped and (taken_over or offset != before.input_offsets.get(partition))
        }
        changed = bool(emissions or share) or not unchanged
        return StepOutcome(
            [*emissions, *share],
            progress,
            changed,
            moved,
            self._record(progress) if changed else Emission(progress_topic(self.topics.app, self.topics.stage), self.partition, [], []),
            read,
            refused,
            sum(len(value or b"") for emission in share for value in emission.values),
            step.flagged,
            quarantined,
        )

    def _record(self, progress: Progress) -> Emission:
        return Emission(progress_topic(self.topics.app, self.topics.stage), self.partition, [progress.key], [progress.encode(self.codec)])

    def _written(self, emissions: Sequence[Emission], share: Sequence[Emission]) -> dict[TopicPartition, LastOutputs]:
        """What the next progress record says of the last outputs of each place, those of a step and the state that goes with them among them."""
        runs: dict[TopicPartition, list[Emission]] = {}
        for emission in emissions:
            runs.setdefault(TopicPartition(emission.topic, emission.partition), []).append(emission)
        written = {**self.progress.written, **{place: LastOutputs.of(run, self._mark(place)) for place, run in runs.items()}}
        for emission in share:
            place = TopicPartition(emission.topic, emission.partition)
            state = LastOutputs.of_state(emission, self._mark(place))
            # Deletions leave nothing to look for, and compaction may now remove what was there before them.
            written.pop(place, None)
            if state is not None:
                written[place] = state
        return written

    def _mark(self, place: TopicPartition) -> int:
        if place not in self.marks:
            self.marks[place] = self.end_of(place)
        return self.marks[place]

    def require_declared(self, outcome: StepOutcome) -> None:
        """Refuse a step that writes where its stage has not said that it does: no record's fault, so that none is searched for.

        Raises
        ------
        UndeclaredOutputError
        """
        inputs, own = self.topics.inputs, {self.dead_letters.topic, checkpoint_topic(self.topics.app, self.topics.stage)}
        unknown = {emission.topic for emission in outcome.emissions} - inputs.outputs - own
        if unknown:
            raise UndeclaredOutputError(
                f"stage {self.topics.stage}: expected records for {', '.join(sorted(inputs.outputs)) or 'no topic'} (TaskInputs.sole_outputs,"
                f" other_outputs), its step writes to {', '.join(sorted(unknown))}: declare it, and name the stage in schemas/topics.yaml"
            )

    def accept(self, outcome: StepOutcome, ends: Mapping[TopicPartition, int]) -> None:
        """Take note that an outcome is committed, and that its outputs end before `ends`."""
        for emission in outcome.emissions:
            place = TopicPartition(emission.topic, emission.partition)
            self.marks.pop(place, None)
            if place in ends:
                self.marks[place] = ends[place]
        self.progress = outcome.progress
        self.quarantined = outcome.quarantined
        self.stale_keys = self.unwritten = ()
        self.recovered = {}
        self.owed = []

    def _checkpoint(
        self, now_ms: int, interval_ms: int, size_bytes: int, verdicts: Sequence[Address]
    ) -> tuple[list[Emission], dict[TopicPartition, int]]:
        topic = checkpoint_topic(self.topics.app, self.topics.stage)
        entries = [StateEntry(key, None) for key in self.stale_keys]
        entries += [StateEntry(verdict_key(address), b"") for address in verdicts]
        marker = dict(self.progress.checkpoint_marker)
        if now_ms >= self.checkpoint_due_ms:
            self.checkpoint_due_ms = now_ms + interval_ms
            checkpoint = self.task.checkpoint(size_bytes)
            entries += self.parts.cut(checkpoint.entries)
            marker = dict(checkpoint.marker) or marker
        return ([Emission(topic, self.partition, [entry.key for entry in entries], [entry.value for entry in entries])] if entries else []), marker
