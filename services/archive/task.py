"""Archive as a task: journal, vectors, predictions and outcomes of one partition, and where its views switch, into Delta tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shared.application.plan import Plan
from shared.avro.arrow_types import int64_ms
from shared.avro.columns import ColumnDecoder
from shared.avro.journal import JournalDecoder
from shared.avro.records import RecordCodec
from shared.avro.registry import SchemaRegistry
from shared.lake.names import OUTCOMES, PREDICTIONS, VECTORS, VIEW_SWITCHES, journal_table
from shared.lake.switches import SWITCHES
from shared.lake.tables import Lake
from shared.streaming.merge import Merge, MergeInput
from shared.streaming.progress import Progress
from shared.streaming.records import Checkpoint, Coverage, Records, StateEntry, Step, TopicPartition
from shared.streaming.task import StepContext, Task, TaskInputs

_SCHEMAS = Path(__file__).parents[2] / "schemas"
_UPSTREAM = ("features", "scoring", "outcomes")
_VERSION = "archive-1"
_MERGE_KEY = b"merge"


def task_inputs(plan: Plan) -> TaskInputs:
    """Where the records come from, where views switch, the progress of the stages that write them, and who waits for them."""
    topics = plan.topics
    data = (topics.journal, topics.vectors, topics.predictions, topics.outcomes)
    return TaskInputs((*data, topics.view_switches, *(topics.progress(stage) for stage in _UPSTREAM)), broadcast=(topics.flush_marks,))


@dataclass(slots=True)
class _Buffer:
    """Rows of one table that wait for the next flush."""

    writer: str
    batches: list[pa.RecordBatch] = field(default_factory=list)
    offsets: list[NDArray[np.int64]] = field(default_factory=list)


class ArchiveTask(Task):
    """Buffers rows and appends them; positions and coverage move on only when the rows are in the lake.

    An append costs a commit and a file in each table, so it waits for many rows or much time, but nobody has to wait for it: a mark names
    an instant, and as soon as everything before it has come, that is appended.

    A crash before the commit repeats an append; the table knows the writer's last offset and leaves out what it has.

    Parameters
    ----------
    flush_rows, flush_ms
        Rows, or processing time since the last flush, after which what is buffered is appended.
    """

    def __init__(self, plan: Plan, registry: SchemaRegistry, lake: Lake, partition: int, flush_rows: int = 50_000, flush_ms: int = 30_000) -> None:
        topics = plan.topics
        self._plan, self._lake, self._partition = plan, lake, partition
        self._flush_rows, self._flush_ms = flush_rows, flush_ms
        self._journal = JournalDecoder(plan, registry)
        self._tables = {topics.vectors: VECTORS, topics.predictions: PREDICTIONS, topics.outcomes: OUTCOMES}
        schemas = {topics.vectors: plan.vector_schema, topics.predictions: _schema("prediction"), topics.outcomes: _schema("outcome")}
        self._decoders = {topic: ColumnDecoder(registry, schema) for topic, schema in schemas.items()}
        self._progress = {
            topic: RecordCodec(registry, f"{topic}-tidemill.Progress", _schema("progress")) for topic in (topics.progress(s) for s in _UPSTREAM)
        }
        self._switches = RecordCodec(registry, f"{topics.view_switches}-tidemill.ViewSwitch", _schema("view-switch"))
        self._flush_marks = RecordCodec(registry, f"{topics.flush_marks}-tidemill.FlushMark", _schema("flush-mark"))
        self._wanted_ms = -1
        derived = zip((topics.vectors, topics.predictions, topics.outcomes), _UPSTREAM, strict=True)
        inputs = [MergeInput(topic, rank, (partition,), stage) for rank, (topic, stage) in enumerate(derived, 1)]
        self._merge = Merge([MergeInput(topics.journal, 0, (partition,)), *inputs])
        self._buffers: dict[str, _Buffer] = {}
        self._buffered = 0
        self._flushed_ms: int | None = None
        self._coverage = Coverage()
        self._positions: Mapping[TopicPartition, int] = {}
        self._state = self._written = b""
        self._replaying = False

    def restore(self, entries: Sequence[StateEntry]) -> None:
        """Load the merge's counts."""
        for entry in entries:
            if entry.key == _MERGE_KEY and entry.value is not None:
                self._state = self._written = entry.value
                self._merge.restore(entry.value)

    def resume(self, positions: Mapping[TopicPartition, int], outputs: Mapping[str, int], coverage_offset: int, coverage_time_ms: int) -> None:
        """Stand where the last progress record stood."""
        self._merge.resume(positions)
        self._positions = dict(positions)
        self._coverage = Coverage(coverage_offset, coverage_time_ms)
        self._replaying = True

    def replay(self, inputs: Sequence[Records]) -> None:
        """Count records that are in the lake already."""
        self._replaying = True
        self._read(inputs, keep=False)

    def skipped(self, topic: str, partition: int, offsets: NDArray[np.int64]) -> None:
        """Count records that were quarantined, so that the merge does not wait for them."""
        if topic == self._plan.topics.journal or topic in self._tables:
            self._merge.skip(topic, partition, offsets)

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        """Buffer, and append when there is enough or it is time."""
        self._finish_replay()
        is_last = context.stopping and not any(map(len, inputs))
        self._read(inputs, keep=True)
        self._merge.release()
        if self._flushed_ms is None:
            self._flushed_ms = context.now_ms
        if self._buffered >= self._flush_rows or context.now_ms - self._flushed_ms >= self._flush_ms or self._is_awaited() or is_last:
            self._flush()
            self._flushed_ms = context.now_ms
        return Step([], self._positions, self._coverage)

    @property
    def buffered(self) -> int:
        """Rows that are read and not in the lake."""
        return self._buffered

    def checkpoint(self, budget_bytes: int) -> Checkpoint:
        """Counts of the merge at the last flush."""
        changed = [StateEntry(_MERGE_KEY, self._state)] if self._state != self._written else []
        self._written = self._state
        return Checkpoint(changed, self._positions)

    def committed(self) -> None:
        """Nothing: the lake was written before the commit."""

    def versions(self) -> Mapping[str, str]:
        """Version of the task and of the application."""
        return {"code": _VERSION, "application": self._plan.application_hash}

    def _finish_replay(self) -> None:
        if self._replaying:
            self._merge.drain()
            # Of the restored positions, which the next checkpoint may name as its marker: the restored counts may be older than they are.
            self._state = self._merge.state()
            self._replaying = False

    def _is_awaited(self) -> bool:
        """Whether somebody waits for an instant that has come but is not in the lake."""
        return self._coverage.time_ms < self._wanted_ms <= self._merge.coverage().time_ms

    def _flush(self) -> None:
        # What the merge still holds back is appended too: it is committed upstream. Its position is not passed, so that a restart reads it
        # again and the tables leave it out.
        for table, buffer in list(self._buffers.items()):
            self._lake.append(table, pa.Table.from_batches(buffer.batches), buffer.writer, np.concatenate(buffer.offsets))
            del self._buffers[table]
        self._buffered = 0
        covered = self._merge.coverage()
        if (covered.time_ms, covered.offset) > (self._coverage.time_ms, self._coverage.offset):
            self._coverage = covered
        self._positions = self._merge.positions()
        self._state = self._merge.state()

    def _read(self, inputs: Sequence[Records], *, keep: bool) -> None:
        for records in inputs:
            if not len(records):
                continue
            if records.topic == self._plan.topics.journal:
                self._read_journal(records, keep=keep)
            elif records.topic in self._tables:
                self._read_derived(records, keep=keep)
            elif records.topic == self._plan.topics.view_switches:
                # Read from its beginning at every start, like the next: a handful of records, of which the table leaves out those it has.
                self._keep(VIEW_SWITCHES, records.topic, self._marks(records), records.offsets)
            elif records.topic == self._plan.topics.flush_marks:
                # No position is kept of this topic: it is small, and read from its beginning at every start.
                marks = [self._flush_marks.decode(value)["journal_time"] for value in records.values if value is not None]
                self._wanted_ms = max([self._wanted_ms, *marks])
            else:
                for offset, value in zip(records.offsets.tolist(), records.values, strict=True):
                    if value is not None:
                        self._merge.watermark(records.topic, records.partition, offset, Progress.decode(value, self._progress[records.topic]))

    def _read_journal(self, records: Records, *, keep: bool) -> None:
        batch = self._journal.decode(records)
        self._merge.add(records.topic, self._partition, offsets=records.offsets, journal_time=batch.journal_time_ms, payload=None)
        for stream, group in batch.groups.items() if keep else ():
            offsets = batch.offsets[group.rows]
            place = [pa.array(np.full(len(offsets), self._partition, np.int32)), pa.array(offsets)]
            names = ["_journal_partition", "_journal_offset", *group.columns.schema.names]
            self._keep(journal_table(stream), records.topic, pa.RecordBatch.from_arrays([*place, *group.columns.columns], names=names), offsets)

    def _read_derived(self, records: Records, *, keep: bool) -> None:
        decoded = self._decoders[records.topic].decode(records.values)
        if decoded.errors:
            first = decoded.errors[0]
            where = f"{records.topic}:{records.partition} offset {records.offsets[first.index]}"
            raise ValueError(f"expected a record that the stage before wrote at {where}, got {first.reason}: {first.detail}")
        prefix = "_" if records.topic == self._plan.topics.vectors else ""
        times, offsets = (int64_ms(decoded.batch.column(f"{prefix}journal_{name}")) for name in ("time", "offset"))
        self._merge.add(records.topic, self._partition, offsets=records.offsets, journal_time=times, journal_offset=offsets, payload=None)
        if keep:
            self._keep(self._tables[records.topic], records.topic, decoded.batch, records.offsets)

    def _marks(self, records: Records) -> pa.RecordBatch:
        rows = []
        for offset, value in zip(records.offsets.tolist(), records.values, strict=True):
            mark = self._switches.decode(value or b"")
            rows.append({**mark, "features": json.dumps(mark["features"], sort_keys=True), "log_offset": offset})
        return pa.RecordBatch.from_pylist(rows, schema=SWITCHES)

    def _keep(self, table: str, topic: str, batch: pa.RecordBatch, offsets: NDArray[np.int64]) -> None:
        buffer = self._buffers.setdefault(table, _Buffer(f"{topic}:{self._partition}"))
        buffer.batches.append(batch)
        buffer.offsets.append(offsets)
        self._buffered += len(offsets)


def _schema(name: str) -> str:
    return (_SCHEMAS / f"{name}.avsc").read_text(encoding="utf-8")
