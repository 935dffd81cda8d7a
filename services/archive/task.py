"""Archive as a task: journal, vectors, answers, outcomes and explanations of a partition, where its views switch, and models' history."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.shared.application.journal import JournalDecoder
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.messages import message_codec, message_decoder
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.lake.history import HISTORY, history_row
from tidemill.shared.lake.names import (
    DECISIONS,
    DEPLOYMENTS,
    EXPLANATIONS,
    INCIDENTS,
    OUTCOMES,
    PREDICTIONS,
    SHADOW_SCORES,
    TRIALS,
    VECTORS,
    VIEW_SWITCHES,
    journal_table,
)
from tidemill.shared.lake.switches import SWITCHES
from tidemill.shared.lake.tables import Lake
from tidemill.shared.log.records import Checkpoint, Records, StateEntry, Step, TopicPartition
from tidemill.shared.merge.merge import MergeInput, Released
from tidemill.shared.merge.merging_task import MergingTask, decoded
from tidemill.shared.released_memory import release_memory
from tidemill.shared.runner.task import StepContext, TaskInputs

_UPSTREAM = ("features", "scoring", "outcomes")
_VERSION = "archive-1"
_MERGE_KEY = b"merge"
_TOGETHER = 64
FLUSH_MS = 30_000
FLUSH_BYTES = 32 << 20


def task_inputs(plan: Plan) -> TaskInputs:
    """Where the records come from, where views switch, the progress of the stages that write them, who waits for them, and models' history."""
    topics = plan.topics
    data = (topics.journal, topics.vectors, topics.predictions, topics.outcomes, topics.shadow_scores)
    history = (topics.deployments, topics.decisions, topics.incidents, topics.trials)
    explained = (topics.explanations,) if "explanations" in plan.application.stages else ()
    told = (topics.progress(stage) for stage in _UPSTREAM)
    return TaskInputs((*data, *explained, topics.view_switches, *told), broadcast=(topics.flush_marks, *history))


@dataclass(slots=True)
class _Buffer:
    """Rows of one table that wait for the next flush."""

    writer: str
    batches: list[pa.RecordBatch] = field(default_factory=list)
    offsets: list[NDArray[np.int64]] = field(default_factory=list)
    small: int = 0

    def add(self, batch: pa.RecordBatch, offsets: NDArray[np.int64]) -> int:
        """Keep rows; returns their bytes."""
        self.batches.append(batch)
        self.offsets.append(offsets)
        self.small += 1
        if self.small == _TOGETHER:
            # A step's few rows lie in buffers of their own, of 64 bytes and more for each column, or in a part of a larger step's.
            self.batches[-self.small :] = pa.Table.from_batches(self.batches[-self.small :]).combine_chunks().to_batches()
            self.offsets[-self.small :] = [np.concatenate(self.offsets[-self.small :])]
            self.small = 0
        return int(batch.nbytes)


class ArchiveTask(MergingTask):
    """Buffers rows and appends them; positions and coverage move on only when the rows are in the lake.

    An append costs a commit and a file in each table, so it waits for many rows or much time, but nobody has to wait for it: a mark names
    an instant, and as soon as everything before it has come, that is appended.

    A crash before the commit repeats an append; the table knows the writer's last offset and leaves out what it has.

    Explanations may come long after everything else, or not at all while their stage is down: they are appended with the next flush, and no coverage
    waits for them.

    Parameters
    ----------
    flush_rows, flush_ms, flush_bytes
        Rows, processing time since the last flush, or bytes, after which what is buffered is appended.
    """

    def __init__(
        self,
        plan: Plan,
        registry: SchemaRegistry,
        lake: Lake,
        partition: int,
        flush_rows: int = 50_000,
        flush_ms: int = FLUSH_MS,
        flush_bytes: int = FLUSH_BYTES,
    ) -> None:
        topics = plan.topics
        self._stages = dict(zip((topics.vectors, topics.predictions, topics.outcomes), _UPSTREAM, strict=True)) | {topics.shadow_scores: "scoring"}
        derived = [MergeInput(topic, rank, (partition,), stage) for rank, (topic, stage) in enumerate(self._stages.items(), 1)]
        progress = {topic: message_codec(registry, topic, "progress") for topic in map(topics.progress, _UPSTREAM)}
        super().__init__([MergeInput(topics.journal, 0, (partition,)), *derived], progress)
        self._plan, self._lake, self._partition = plan, lake, partition
        self._flush_rows, self._flush_ms, self._flush_bytes = flush_rows, flush_ms, flush_bytes
        self._journal = JournalDecoder(plan, registry)
        self._tables = {
            topics.vectors: VECTORS,
            topics.predictions: PREDICTIONS,
            topics.outcomes: OUTCOMES,
            topics.shadow_scores: SHADOW_SCORES,
        }
        self._decoders = {
            topics.vectors: ColumnDecoder(registry, plan.vector_schema),
            topics.predictions: message_decoder(registry, "prediction"),
            topics.outcomes: message_decoder(registry, "outcome"),
            topics.shadow_scores: message_decoder(registry, "shadow-score"),
        }
        self._switches = message_codec(registry, topics.view_switches, "view-switch")
        self._flush_marks = message_codec(registry, topics.flush_marks, "flush-mark")
        self._history = {
            topic: (table, message_codec(registry, topic, name))
            for topic, table, name in (
                (topics.deployments, DEPLOYMENTS, "deployment"),
                (topics.decisions, DECISIONS, "decision"),
                (topics.incidents, INCIDENTS, "incident"),
                (topics.trials, TRIALS, "trial"),
            )
        }
        self._explanations = message_decoder(registry, "explanation")
        self._explained = 0
        self._wanted_ms = -1
        self._buffers: dict[str, _Buffer] = {}
        self._buffered = self._buffered_bytes = 0
        self._flushed_ms: int | None = None
        self._positions: Mapping[TopicPartition, int] = {}
        self._state = self._written = b""

    def restore(self, entries: Sequence[StateEntry]) -> None:
        """Load the merge's counts."""
        for entry in entries:
            if entry.key == _MERGE_KEY and entry.value is not None:
                self._state = self._written = entry.value
                self.merge.restore(entry.value)

    def resume(self, positions: Mapping[TopicPartition, int], outputs: Mapping[str, int], coverage_offset: int, coverage_time_ms: int) -> None:
        """Stand where the last progress record stood."""
        super().resume(positions, outputs, coverage_offset, coverage_time_ms)
        self._positions = dict(positions)
        self._explained = positions.get(self._explanations_place, 0)
        # Also without records to replay the restored counts may be older than the positions.
        self.replaying = True

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        """Buffer, and append when there is enough or it is time."""
        self.finish_replay()
        is_last = context.stopping and not any(map(len, inputs))
        self.read(inputs)
        self.merge.release()
        if self._flushed_ms is None:
            self._flushed_ms = context.elapsed_ms
        is_much = self._buffered >= self._flush_rows or self._buffered_bytes >= self._flush_bytes
        if is_much or context.elapsed_ms - self._flushed_ms >= self._flush_ms or self._is_awaited() or is_last:
            self._flush()
            self._flushed_ms = context.elapsed_ms
        return Step([], self._positions, self.coverage)

    @property
    def buffered(self) -> int:
        """Rows that are read and not in the lake."""
        return self._buffered

    def checkpoint(self, budget_bytes: int) -> Checkpoint:
        """Counts of the merge at the last flush."""
        changed = [StateEntry(_MERGE_KEY, self._state)] if self._state != self._written else []
        self._written = self._state
        return Checkpoint(changed, self._positions)

    def versions(self) -> Mapping[str, str]:
        """Version of the task and of the application."""
        return {"code": _VERSION, "application": self._plan.application_hash}

    def refold(self, released: Released) -> None:
        """Take the counts that belong to the restored positions, which the next checkpoint may name as its marker; the rows are in the lake."""
        self._state = self.merge.state()

    def _is_awaited(self) -> bool:
        """Whether somebody waits for an instant that has come but is not in the lake."""
        return self.coverage.time_ms < self._wanted_ms <= self.merge.coverage().time_ms

    def _flush(self) -> None:
        # What the merge still holds back is appended too: it is committed upstream. Its position is not passed, so that a restart reads it
        # again and the tables leave it out.
        for table, buffer in list(self._buffers.items()):
            self._lake.append(table, pa.Table.from_batches(buffer.batches), buffer.writer, np.concatenate(buffer.offsets))
            del self._buffers[table]
        self._buffered = self._buffered_bytes = 0
        release_memory()
        self.cover()
        self._positions = {**self.merge.positions(), **({self._explanations_place: self._explained} if self._explained else {})}
        self._state = self.merge.state()

    @property
    def _explanations_place(self) -> TopicPartition:
        return TopicPartition(self._plan.topics.explanations, self._partition)

    def take(self, records: Records) -> None:
        """Count rows, and buffer them; in a replay they are in the lake already."""
        if records.topic == self._plan.topics.journal:
            self._take_journal(records)
        elif records.topic in self._tables:
            self._take_derived(records)
        elif records.topic == self._plan.topics.view_switches:
            # Read from its beginning at every start, like the next: a handful of records, of which the table leaves out those it has.
            self._keep(VIEW_SWITCHES, records.topic, self._marks(records), records.offsets)
        elif records.topic in self._history:
            self._take_history(records)
        elif records.topic == self._plan.topics.explanations:
            self._take_explanations(records)
        else:
            # No position is kept of the marks: they are few, and read from their beginning at every start.
            marks = [self._flush_marks.decode(value)["journal_time"] for value in records.values if value is not None]
            self._wanted_ms = max([self._wanted_ms, *marks])

    def _take_journal(self, records: Records) -> None:
        batch = self._journal.decode(records)
        self.merge.add(records.topic, self._partition, offsets=records.offsets, journal_time=batch.journal_time_ms, payload=None)
        for stream, group in () if self.replaying else batch.groups.items():
            offsets = batch.offsets[group.rows]
            place = [pa.array(np.full(len(offsets), self._partition, np.int32)), pa.array(offsets)]
            names = ["_journal_partition", "_journal_offset", *group.columns.schema.names]
            self._keep(journal_table(stream), records.topic, pa.RecordBatch.from_arrays([*place, *group.columns.columns], names=names), offsets)

    def _take_derived(self, records: Records) -> None:
        batch = decoded(self._decoders[records.topic], records, self._stages[records.topic])
        prefix = "_" if records.topic == self._plan.topics.vectors else ""
        times, offsets = (int64_ms(batch.column(f"{prefix}journal_{name}")) for name in ("time", "offset"))
        self.merge.add(records.topic, self._partition, offsets=records.offsets, journal_time=times, journal_offset=offsets, payload=None)
        if not self.replaying:
            self._keep(self._tables[records.topic], records.topic, batch, records.offsets)

    def _take_explanations(self, records: Records) -> None:
        self._explained = int(records.offsets[-1]) + 1
        if not self.replaying:
            self._keep(EXPLANATIONS, records.topic, decoded(self._explanations, records, "explanations"), records.offsets)

    def _take_history(self, records: Records) -> None:
        """Keep records of a topic that has one partition, which every task reads from its beginning at every start: one of them writes it."""
        table, codec = self._history[records.topic]
        if self._partition == 0:
            rows = [history_row(offset, codec.decode(value or b"")) for offset, value in zip(records.offsets.tolist(), records.values, strict=True)]
            self._keep(table, records.topic, pa.RecordBatch.from_pylist(rows, schema=HISTORY), records.offsets)

    def _marks(self, records: Records) -> pa.RecordBatch:
        rows = []
        for offset, value in zip(records.offsets.tolist(), records.values, strict=True):
            mark = self._switches.decode(value or b"")
            rows.append({**mark, "features": json.dumps(mark["features"], sort_keys=True), "log_offset": offset})
        return pa.RecordBatch.from_pylist(rows, schema=SWITCHES)

    def _keep(self, table: str, topic: str, batch: pa.RecordBatch, offsets: NDArray[np.int64]) -> None:
        buffer = self._buffers.setdefault(table, _Buffer(f"{topic}:{self._partition}"))
        self._buffered_bytes += buffer.add(batch, offsets)
        self._buffered += len(offsets)
