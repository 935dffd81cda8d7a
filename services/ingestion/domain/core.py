"""Ingestion's rules: validate, clean, deduplicate and sequence; accepted + rejected + duplicates = raw, at every step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.ingestion.domain.availability_merge import TICK, AvailabilityMerge
from services.ingestion.domain.placement import partitions_of
from shared.application.plan import Plan, StreamPlan
from shared.avro.arrow_types import int64_ms
from shared.avro.columns import DecodedColumns


@dataclass(frozen=True, slots=True)
class RawChunk:
    """Records of one raw topic partition, decoded.

    Attributes
    ----------
    offsets, timestamps_ms : int64 arrays, shape (n,)
    heartbeat : bool array, shape (n,)
    keys, values
        Raw bytes, for dead letters.
    decoded
        Over all n records; heartbeats are in neither its rows nor its errors.
    """

    partition: int
    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    heartbeat: NDArray[np.bool_]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    decoded: DecodedColumns


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record that goes to the dead letters."""

    stream: str
    reason: str
    detail: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    journal_time_ms: int


@dataclass(frozen=True, slots=True)
class JournalRun:
    """What a step adds to the journal, in order.

    Attributes
    ----------
    source : int64 array, shape (n,)
        Stream index, -1 for ticks.
    time_ms : int64 array, shape (n,)
        Journal times, monotone.
    entries
        Per stream its entries (columns of the entry schema), in the same order as its index appears in `source`.
    """

    source: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    entries: Mapping[str, pa.RecordBatch]


@dataclass(frozen=True, slots=True)
class IngestionStep:
    """One step's results and counts; `released` counts raw records per stream (heartbeats not among them)."""

    journal: JournalRun
    rejections: Sequence[Rejection]
    duplicates: Mapping[str, pa.RecordBatch]
    late: Mapping[str, pa.RecordBatch]
    released: Mapping[str, int]


@dataclass(slots=True)
class _Waiting:
    """Records of a stream that the merge still holds, row by row: columns and verdicts made on arrival."""

    columns: pa.Table
    raw: list[tuple[int, int, int, bytes | None, bytes | None]] = field(default_factory=list)
    verdicts: list[tuple[str, str] | None] = field(default_factory=list)


class IngestionCore:
    """The fold behind the journal. Pure; live or replayed is the caller's business (`idle`).

    Parameters
    ----------
    partition
        The journal partition this core writes; records whose key belongs elsewhere are rejected.
    """

    def __init__(self, plan: Plan, partition: int) -> None:
        self._plan = plan
        self._partition = partition
        self._streams = list(plan.streams.values())
        self._merge = AvailabilityMerge(len(self._streams))
        self._waiting = {stream.name: _Waiting(self._arrived_schema(stream).empty_table()) for stream in self._streams}
        self._seen: dict[str, set[str]] = {stream.name: set() for stream in self._streams}
        self._newest_event = {stream.name: -1 for stream in self._streams}
        self.journal_time_ms = 0

    @property
    def inversions(self) -> int:
        """Records whose timestamp ran backwards within their topic."""
        return self._merge.inversions

    def waiting(self, stream: str) -> int:
        """Records of a stream that are read but not released."""
        return len(self._waiting[stream].raw)

    def remember(self, stream: str, event_ids: Sequence[str], newest_event_ms: int, journal_time_ms: int) -> None:
        """Learn from the task's own outputs what an earlier incarnation had accepted."""
        if not self._plan.streams[stream].is_reference:
            self._seen[stream].update(event_ids)
        self._newest_event[stream] = max(self._newest_event[stream], newest_event_ms)
        self.journal_time_ms = max(self.journal_time_ms, journal_time_ms)

    def add(self, stream: str, chunk: RawChunk) -> None:
        """Take the next raw records of a stream: clean and judge each by itself; order comes later."""
        plan = self._plan.streams[stream]
        self._merge.add(plan.index, chunk.timestamps_ms, chunk.heartbeat)
        real = np.flatnonzero(~chunk.heartbeat)
        if not len(real):
            return
        n = len(chunk.offsets)
        columns, verdicts = self._judge(plan, chunk)
        at = np.full(n, -1, np.int64)
        at[chunk.decoded.rows] = np.arange(len(chunk.decoded.rows))
        for error in chunk.decoded.errors:
            verdicts[error.index] = (error.reason, error.detail)
        rows = at[real]
        waiting = self._waiting[stream]
        taken = pa.Table.from_batches([columns]).take(pa.array(rows, mask=rows < 0))
        waiting.columns = pa.concat_tables([waiting.columns, taken])
        for i in real.tolist():
            waiting.raw.append((chunk.partition, int(chunk.offsets[i]), int(chunk.timestamps_ms[i]), chunk.keys[i], chunk.values[i]))
            waiting.verdicts.append(verdicts.get(i))

    def release(self, idle: Sequence[str] = (), tick_ms: int | None = None) -> IngestionStep:
        """Sequence whatever is certain.

        Parameters
        ----------
        idle
            Streams whose end is reached in a live run; they do not hold the others back.
        tick_ms
            Live runs: end the step with a tick of this time.
        """
        mask = np.array([stream.name in idle and not self.waiting(stream.name) for stream in self._streams])
        released = self._merge.release(mask)
        source, times = released.source, released.time_ms
        if tick_ms is not None:
            source, times = np.append(source, TICK), np.append(times, max(tick_ms, int(times[-1]) if len(times) else tick_ms))
        times = np.maximum(np.maximum.accumulate(times), self.journal_time_ms) if len(times) else times
        keep = source == TICK
        rejections: list[Rejection] = []
        entries: dict[str, pa.RecordBatch] = {}
        duplicates: dict[str, pa.RecordBatch] = {}
        late: dict[str, pa.RecordBatch] = {}
        for stream in self._streams:
            rows = np.flatnonzero(source == stream.index)
            if len(rows):
                accepted = self._accept(stream, times[rows], rejections, entries, duplicates, late)
                keep[rows] = accepted
        if len(times):
            self.journal_time_ms = int(times[-1])
        rejections.sort(key=lambda rejection: (rejection.journal_time_ms, rejection.stream, rejection.offset))
        counts = {stream.name: int(released.counts[stream.index]) for stream in self._streams}
        return IngestionStep(JournalRun(source[keep], times[keep], entries), rejections, duplicates, late, counts)

    def _arrived_schema(self, stream: StreamPlan) -> pa.Schema:
        fields = [pa.field(f.name, f.type) for f in stream.entry_arrow if not f.name.startswith("_")]
        return pa.schema([*fields, pa.field("_key", pa.string()), pa.field("_event_time", pa.int64()), pa.field("_event_id", pa.string())])

    def _judge(self, stream: StreamPlan, chunk: RawChunk) -> tuple[pa.RecordBatch, dict[int, tuple[str, str]]]:
        """Derive columns, then name what is wrong with each record (by row of the chunk); the first finding counts."""
        batch, rows = chunk.decoded.batch, chunk.decoded.rows
        for name, expression in stream.derivations:
            batch = batch.append_column(name, expression.evaluate(batch))
        verdicts: dict[int, tuple[str, str]] = {}

        def refuse(bad: pa.Array, reason: str, detail: str) -> None:
            for i in rows[np.asarray(pc.fill_null(bad, True).to_numpy(zero_copy_only=False), np.bool_)].tolist():
                verdicts.setdefault(i, (reason, detail))

        key = batch.column(stream.key).cast(pa.string())
        identity = batch.column(stream.event_id).cast(pa.string()) if stream.event_id else key
        event_time = batch.column(stream.event_time)
        refuse(self._missing(batch.column(stream.key)), "missing_key", f"expected a value in {stream.key}, the key")
        if stream.event_id:
            refuse(self._missing(batch.column(stream.event_id)), "missing_event_id", f"expected a value in {stream.event_id}, the event id")
        refuse(event_time.is_null(), "missing_event_time", f"expected a time in {stream.event_time}")
        if not stream.is_reference and self._plan.application.partitions > 1:
            homes = partitions_of([text.encode() for text in pc.fill_null(key, "").to_pylist()], self._plan.application.partitions)
            refuse(
                pa.array(homes != self._partition),
                "misplaced_key",
                f"found in partition {self._partition}; set partitioner=murmur2_random in the producer",
            )
        for expectation in stream.expectations:
            if expectation.rejects:
                refuse(pc.invert(expectation.check.evaluate(batch)), "expectation", f"expected {expectation.name}: {expectation.check.sql}")
        times = event_time.cast(pa.timestamp("ms")).cast(pa.int64())
        schema = self._arrived_schema(stream)
        arrays = [batch.column(name).cast(schema.field(name).type) for name in schema.names[:-3]]
        return pa.RecordBatch.from_arrays([*arrays, key, times, identity], schema=schema), verdicts

    @staticmethod
    def _missing(column: pa.Array) -> pa.Array:
        """Null, NaN and empty text are no values."""
        missing = column.is_null()
        if pa.types.is_floating(column.type):
            return pc.or_(missing, pc.fill_null(pc.is_nan(column), True))
        if pa.types.is_string(column.type):
            return pc.or_(missing, pc.fill_null(pc.equal(column, ""), True))
        return missing

    def _accept(
        self,
        stream: StreamPlan,
        times: NDArray[np.int64],
        rejections: list[Rejection],
        entries: dict[str, pa.RecordBatch],
        duplicates: dict[str, pa.RecordBatch],
        late: dict[str, pa.RecordBatch],
    ) -> NDArray[np.bool_]:
        """Judge a stream's next records in their order; returns which enter the journal, shape (n,)."""
        waiting = self._waiting[stream.name]
        n = len(times)
        raw, verdicts = waiting.raw[:n], waiting.verdicts[:n]
        table = waiting.columns.slice(0, n).combine_chunks()
        self._waiting[stream.name] = _Waiting(waiting.columns.slice(n).combine_chunks(), waiting.raw[n:], waiting.verdicts[n:])
        batch = table.to_batches()[0]
        accepted = np.zeros(n, np.bool_)
        copied = np.zeros(n, np.bool_)
        seen = self._seen[stream.name]
        for i, (verdict, identity) in enumerate(zip(verdicts, batch.column("_event_id").to_pylist(), strict=True)):
            if verdict is not None:
                partition, offset, timestamp, key, value = raw[i]
                rejections.append(Rejection(stream.name, verdict[0], verdict[1], partition, offset, timestamp, key, value, int(times[i])))
            elif stream.is_reference:
                accepted[i] = True
            elif identity in seen:
                copied[i] = True
            else:
                seen.add(identity)
                accepted[i] = True
        partitions = np.array([row[0] for row in raw], np.int32)
        offsets = np.array([row[1] for row in raw], np.int64)
        if copied.any():
            ids = batch.column("_event_id").filter(pa.array(copied))
            duplicates[stream.name] = _address(stream, ids, partitions[copied], offsets[copied], times[copied])
        if accepted.any():
            good = batch.filter(pa.array(accepted))
            event_times = int64_ms(good.column("_event_time"))
            newest = np.maximum.accumulate(np.concatenate([[self._newest_event[stream.name]], event_times]))
            behind = newest[:-1] - event_times
            is_late = behind > stream.allowed_lateness_ms if not stream.is_reference else np.zeros(len(behind), np.bool_)
            self._newest_event[stream.name] = int(newest[-1])
            entries[stream.name] = _entry(stream, good, times[accepted], is_late, partitions[accepted], offsets[accepted])
            if is_late.any():
                ids = good.column("_event_id").filter(pa.array(is_late))
                copy = _address(stream, ids, partitions[accepted][is_late], offsets[accepted][is_late], times[accepted][is_late])
                copy = copy.append_column("event_time", pa.array(event_times[is_late]).cast(pa.timestamp("ms")))
                late[stream.name] = copy.append_column("lateness_ms", pa.array(behind[is_late]))
        return accepted


def _address(
    stream: StreamPlan, ids: pa.Array, partitions: NDArray[np.int32], offsets: NDArray[np.int64], times: NDArray[np.int64]
) -> pa.RecordBatch:
    n = len(ids)
    return pa.RecordBatch.from_pydict(
        {
            "stream": pa.array([stream.name] * n),
            "event_id": ids,
            "source_topic": pa.array([stream.topic] * n),
            "source_partition": pa.array(partitions),
            "source_offset": pa.array(offsets),
            "journal_time": pa.array(times).cast(pa.timestamp("ms")),
        }
    )


def _entry(
    stream: StreamPlan,
    good: pa.RecordBatch,
    times: NDArray[np.int64],
    is_late: NDArray[np.bool_],
    partitions: NDArray[np.int32],
    offsets: NDArray[np.int64],
) -> pa.RecordBatch:
    stamp = pa.timestamp("ms")
    made = {
        "_journal_time": pa.array(times).cast(stamp),
        "_event_id": good.column("_event_id"),
        "_event_time": good.column("_event_time").cast(stamp),
        "_late": pa.array(is_late),
        "_source_partition": pa.array(partitions),
        "_source_offset": pa.array(offsets),
    }
    schema = stream.entry_arrow
    return pa.RecordBatch.from_arrays([made[name] if name in made else good.column(name) for name in schema.names], schema=schema)
