"""Ingestion as a task: raw records in; journal, dead letters, duplicates and late copies out."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from services.ingestion.domain.core import IngestionCore, IngestionStep, RawChunk, Rejection
from services.ingestion.json_events import JsonDecoder
from shared.application.plan import Plan, StreamPlan
from shared.avro.arrow_types import int64_ms
from shared.avro.columns import ColumnDecoder, ColumnEncoder, DecodedColumns
from shared.avro.journal import TICK_SCHEMA, JournalDecoder
from shared.avro.records import RecordCodec
from shared.avro.registry import SchemaRegistry
from shared.streaming.errors import InvalidRecord
from shared.streaming.records import Checkpoint, Coverage, Emission, Records, StateEntry, Step, TopicPartition
from shared.streaming.task import StepContext, TaskInputs

_SCHEMAS = Path(__file__).parents[2] / "schemas"


def task_inputs(plan: Plan) -> TaskInputs:
    """Where ingestion's records come from."""
    events = tuple(stream.topic for stream in plan.streams.values() if not stream.is_reference)
    references = tuple(stream.topic for stream in plan.reference_streams)
    return TaskInputs(events, references, restores_from_outputs=(plan.topics.journal,))


class IngestionTask:
    """The only writer of one journal partition.

    Parameters
    ----------
    clock
        ``live``: a topic whose end is reached does not hold the merge back, and idle time becomes ticks. ``replay``: heartbeats alone bound
        the merge and make the ticks; no wall clock enters.
    tick_ms
        Live: how often an idle journal is moved on, milliseconds.
    """

    def __init__(self, plan: Plan, registry: SchemaRegistry, partition: int, clock: Literal["live", "replay"], tick_ms: int = 1_000) -> None:
        self._plan = plan
        self._partition = partition
        self._clock = clock
        self._tick_ms = tick_ms
        self._core = IngestionCore(plan, partition)
        self._streams = {stream.topic: stream for stream in plan.streams.values()}
        self._avro = {stream.topic: ColumnDecoder(registry, stream.user_schema) for stream in plan.streams.values()}
        self._json = {stream.topic: JsonDecoder(stream.user_arrow) for stream in plan.streams.values()}
        topics = plan.topics
        self._entries = {
            stream.name: ColumnEncoder(registry, f"{topics.journal}-{_full_name(plan, stream)}", stream.entry_schema)
            for stream in plan.streams.values()
        }
        self._ticks = ColumnEncoder(registry, f"{topics.journal}-tidemill.Tick", TICK_SCHEMA)
        self._rejected = RecordCodec(registry, f"{topics.rejected}-tidemill.Rejected", (_SCHEMAS / "rejected.avsc").read_text())
        self._duplicates = ColumnEncoder(registry, f"{topics.duplicates}-tidemill.Duplicate", (_SCHEMAS / "duplicate.avsc").read_text())
        self._late = ColumnEncoder(registry, f"{topics.late}-tidemill.Late", (_SCHEMAS / "late.avsc").read_text())
        self._journal = JournalDecoder(plan, registry)
        self._positions: dict[TopicPartition, int] = {}
        self._held: dict[str, list[tuple[TopicPartition, int]]] = {stream.name: [] for stream in plan.streams.values()}

    def restore(self, entries: Sequence[StateEntry]) -> None:
        """Nothing: what was accepted is read from the journal itself."""

    def resume(self, positions: Mapping[TopicPartition, int], outputs: Mapping[str, int], coverage_offset: int, coverage_time_ms: int) -> None:
        """Take up the positions of the last progress record."""
        self._positions = dict(positions)
        self._core.journal_time_ms = max(self._core.journal_time_ms, coverage_time_ms)

    def replay(self, inputs: Sequence[Records]) -> None:
        """Learn from the own journal which events are known and how far event time and journal time have come."""
        for records in inputs:
            batch = self._journal.decode(records)
            if len(batch):
                self._core.journal_time_ms = max(self._core.journal_time_ms, int(batch.journal_time_ms[-1]))
            for name, group in batch.groups.items():
                newest = int(int64_ms(group.columns.column("_event_time")).max())
                self._core.remember(name, group.columns.column("_event_id").to_pylist(), newest, self._core.journal_time_ms)

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        """Sequence what is certain."""
        for records in inputs:
            self._take(records)
        idle: list[str] = []
        tick = None
        if self._clock == "live":
            idle = [s.name for s in self._streams.values() if self._home(s) in context.caught_up and not self._core.waiting(s.name)]
            if len(idle) == len(self._streams) and context.now_ms - self._core.journal_time_ms >= self._tick_ms:
                tick = context.now_ms
        step = self._core.release(idle, tick)
        for stream in self._streams.values():
            self._advance(stream, step.released[stream.name])
        return Step(self._emissions(step), dict(self._positions), Coverage(0, self._core.journal_time_ms))

    def checkpoint(self, budget_bytes: int) -> Checkpoint:
        """Nothing: the journal is the checkpoint."""
        return Checkpoint()

    def committed(self) -> None:
        """No external writes."""

    def versions(self) -> Mapping[str, str]:
        """Code and application."""
        return {"code": version("tidemill"), "application": self._plan.application_hash}

    def _home(self, stream: StreamPlan) -> TopicPartition:
        return TopicPartition(stream.topic, 0 if stream.is_reference else self._partition)

    def _take(self, records: Records) -> None:
        stream = self._streams[records.topic]
        heartbeat = np.array([value is None for value in records.values], np.bool_)
        chunk = RawChunk(
            records.partition, records.offsets, records.timestamps_ms, heartbeat, records.keys, records.values, self._decode(records, heartbeat)
        )
        self._core.add(stream.name, chunk)
        place = TopicPartition(records.topic, records.partition)
        self._held[stream.name].extend((place, offset) for offset in records.offsets[~heartbeat].tolist())
        if len(records):
            self._positions[place] = int(records.offsets[-1]) + 1

    def _advance(self, stream: StreamPlan, released: int) -> None:
        """A position never passes a record the merge still holds; heartbeats before it are read again and do no harm."""
        held = self._held[stream.name] = self._held[stream.name][released:]
        for place, offset in reversed(held):
            self._positions[place] = offset

    def _decode(self, records: Records, heartbeat: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> DecodedColumns:
        text = np.array([value is not None and value[:1] == b"{" for value in records.values], np.bool_)
        parts = []
        errors: list[InvalidRecord] = []
        for rows, decoder in ((np.flatnonzero(~heartbeat & ~text), self._avro[records.topic]), (np.flatnonzero(text), self._json[records.topic])):
            if len(rows):
                decoded = decoder.decode([value for value in (records.values[i] for i in rows.tolist()) if value is not None])
                parts.append((decoded.batch, rows[decoded.rows]))
                for error in decoded.errors:
                    error.index = int(rows[error.index])
                errors.extend(decoded.errors)
        if not parts:
            return DecodedColumns(pa.RecordBatch.from_pylist([], schema=self._streams[records.topic].user_arrow), np.empty(0, np.int64), ())
        if len(parts) == 1:
            return DecodedColumns(parts[0][0], parts[0][1], errors)
        rows = np.concatenate([rows for _, rows in parts])
        order = np.argsort(rows)
        table = pa.Table.from_batches([batch for batch, _ in parts]).take(pa.array(order)).combine_chunks()
        return DecodedColumns(table.to_batches()[0] if table.num_rows else parts[0][0], rows[order], errors)

    def _emissions(self, step: IngestionStep) -> list[Emission]:
        topics, p = self._plan.topics, self._partition
        emissions = []
        run = step.journal
        if len(run.source):
            keys: list[bytes | None] = [b"tick"] * len(run.source)
            values: list[bytes | None] = [None] * len(run.source)
            ticks = np.flatnonzero(run.source < 0)
            if len(ticks):
                column = pa.array(run.time_ms[ticks]).cast(pa.timestamp("ms"))
                _place(values, ticks, self._ticks.encode(pa.RecordBatch.from_arrays([column], names=["_journal_time"])))
            for name, batch in step.journal.entries.items():
                stream = self._plan.streams[name]
                rows = np.flatnonzero(run.source == stream.index)
                _place(values, rows, self._entries[name].encode(batch))
                _place(keys, rows, [str(key).encode() for key in batch.column(stream.key).to_pylist()])
            emissions.append(Emission(topics.journal, p, keys, values, run.time_ms))
        if step.rejections:
            dead = [self._rejected.encode(self._dead_letter(rejection)) for rejection in step.rejections]
            emissions.append(Emission(topics.rejected, p, [rejection.key for rejection in step.rejections], dead))
        for batch in step.duplicates.values():
            emissions.append(Emission(topics.duplicates, p, _ids(batch), self._duplicates.encode(batch)))
        for batch in step.late.values():
            emissions.append(Emission(topics.late, p, _ids(batch), self._late.encode(batch)))
        return emissions

    def _dead_letter(self, rejection: Rejection) -> dict[str, object]:
        return {
            "stage": "ingestion",
            "reason": rejection.reason,
            "detail": rejection.detail,
            "source_topic": self._plan.streams[rejection.stream].topic,
            "source_partition": rejection.partition,
            "source_offset": rejection.offset,
            "source_timestamp": rejection.timestamp_ms,
            "key": rejection.key,
            "value": rejection.value,
            "journal_time": rejection.journal_time_ms,
        }


def _ids(batch: pa.RecordBatch) -> list[bytes | None]:
    return [str(identity).encode() for identity in batch.column("event_id").to_pylist()]


def _place(target: list[bytes | None], rows: np.ndarray[tuple[int], np.dtype[np.int64]], values: Sequence[bytes]) -> None:
    for row, value in zip(rows.tolist(), values, strict=True):
        target[row] = value


def _full_name(plan: Plan, stream: StreamPlan) -> str:
    schema = json.loads(stream.entry_schema)
    return f"{schema['namespace']}.{schema['name']}"
