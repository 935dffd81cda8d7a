"""Judges raw records one by one: derived columns, expectations, keys, ids, times."""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.services.ingestion.domain.raw import CleanRows, RawChunk, RecordVerdict
from tidemill.shared.application.debezium import PREFIX
from tidemill.shared.application.plan import StreamPlan
from tidemill.shared.avro.arrow_types import int64_ms, leaf_type
from tidemill.shared.avro.key_text import KeyTextError, key_texts, uuid_text
from tidemill.shared.avro.writer_ids import repeated_writer
from tidemill.shared.log.partitioning import partitions_of

_TIME = pa.timestamp("ms")
DELETES = 1 << 61
"""Flag of a record without a value that deletes a reference row."""
NON_FINITE = 1 << 62
"""Flag of a record in which a NaN or an infinity became null; those of flagging expectations are the low bits."""
_YEAR_1_MS, _YEAR_10000_MS = -62_135_596_800_000, 253_402_300_800_000


class Cleaner:
    """What a record of one stream must be to enter the journal, whatever came before it. Pure and replay-safe.

    Parameters
    ----------
    partition, partitions
        The task's own partition and how many there are; a record whose key belongs elsewhere is refused.
    """

    def __init__(self, stream: StreamPlan, partition: int, partitions: int) -> None:
        self._stream = stream
        self._partition = partition
        self._partitions = 1 if stream.is_reference else partitions
        self.is_reference = stream.is_reference
        self._has_uuids = leaf_type(stream.entry_schema, stream.key).logical == "uuid"
        self._columns = pa.schema([pa.field(field.name, field.type) for field in stream.entry_arrow if not field.name.startswith("_")])
        self.schema = pa.schema([*self._columns, pa.field("_key", pa.string()), pa.field("_event_id", pa.string()), pa.field("_event_time", _TIME)])
        self.flagging = [expectation for expectation in stream.expectations if not expectation.rejects]

    def clean(self, chunk: RawChunk) -> CleanRows:
        """Derive columns and name what is wrong with each record; the first finding counts."""
        n, rows, batch = len(chunk), chunk.decoded.rows, chunk.decoded.batch
        verdicts = {error.index: RecordVerdict(error.reason, error.detail) for error in chunk.decoded.errors}
        flags = np.zeros(n, np.int64)
        flags[list(chunk.flags)] = list(chunk.flags.values())
        said = None
        if chunk.deletes is not None and chunk.deletes.any():
            said = rows[chunk.deletes], batch.filter(pa.array(chunk.deletes))
            rows, batch = rows[~chunk.deletes], batch.filter(pa.array(~chunk.deletes))
        good = self._judge(batch, rows, verdicts, flags)
        for bit, expectation in enumerate(self.flagging):
            holds, _ = expectation.check.attempt(good)
            flags[rows] |= (~_truth(holds)).astype(np.int64) << bit
        if len(rows) != n:
            at = np.full(n, -1, np.int64)
            at[rows] = np.arange(len(rows))
            for gone, entries in self._deletions(chunk, verdicts, said):
                at[gone] = len(good) + np.arange(len(gone))
                flags[gone] |= DELETES
                good = pa.concat_batches([good, entries])
            good = _placed(good, at)
        refused = np.zeros(n, np.bool_)
        refused[list(verdicts)] = True
        partition = np.full(n, chunk.partition, np.int32)
        writers = repeated_writer(0, n) if chunk.decoded.writers is None else chunk.decoded.writers
        return CleanRows(
            good, refused, chunk.heartbeat, flags, partition, chunk.offsets, chunk.timestamps_ms, chunk.keys, chunk.values, verdicts, writers
        )

    def _deletions(
        self, chunk: RawChunk, verdicts: dict[int, RecordVerdict], said: tuple[NDArray[np.int64], pa.RecordBatch] | None
    ) -> Iterator[tuple[NDArray[np.int64], pa.RecordBatch]]:
        """Give which records delete a row, and their entries: nothing but key and times; name what is wrong with others.

        A record without a value does, and one that says so (`said`: where, and columns).
        """
        if said is not None:
            yield self._said_deletions(chunk, verdicts, *said)
        bare = [i for i, value in enumerate(chunk.values) if value is None and not chunk.heartbeat[i]] if None in chunk.values else []
        gone, keys = [], []
        kind = self._columns.field(self._stream.key).type
        for i in bare:
            if i in chunk.flags:
                continue
            if not self.is_reference:
                verdicts.setdefault(
                    i, RecordVerdict("null_value", "expected an event, found no value: only rows of a reference stream can be deleted")
                )
                continue
            key = _deleted_key(chunk.keys[i], kind, self._has_uuids)
            if key is None:
                detail = f"expected the key of the row to delete, as text of {self._stream.key} ({kind}), found {chunk.keys[i]!r} and no value"
                verdicts.setdefault(i, RecordVerdict("unreadable_key", detail))
                continue
            gone.append(i)
            keys.append(key)
        if gone:
            key_column = pa.array(keys, pa.string())
            times = pa.array(np.maximum(chunk.timestamps_ms[gone], 0)).cast(_TIME)
            yield np.array(gone, np.int64), self._deleting({self._stream.key: key_column.cast(kind)}, key_column, times)

    def _said_deletions(
        self, chunk: RawChunk, verdicts: dict[int, RecordVerdict], rows: NDArray[np.int64], batch: pa.RecordBatch
    ) -> tuple[NDArray[np.int64], pa.RecordBatch]:
        """Return the entries of rows that delete what has their key; what says of the change itself (the envelope's columns) stays."""
        stream = self._stream
        kept = {name: batch.column(name) for name in batch.schema.names if name == stream.key or name.startswith(f"{PREFIX}.")}
        for name, expression in stream.derivations:
            values, _ = expression.attempt(batch)
            batch = batch.append_column(name, values)
            kept |= {name: values} if name == stream.key else {}
        key = key_texts(batch.column(stream.key))
        missing = _missing(batch.column(stream.key))
        for i in rows[missing].tolist():
            verdicts.setdefault(i, RecordVerdict("missing_key", f"expected a value in {stream.key}, the key of the row to delete"))
        stamps = pa.array(np.maximum(chunk.timestamps_ms[rows], 0)).cast(_TIME)
        known = batch.column(stream.event_time).cast(_TIME, safe=False) if stream.event_time in kept else pa.nulls(len(rows), _TIME)
        return rows, self._deleting(kept, key, pc.coalesce(known, stamps))

    def _deleting(self, kept: Mapping[str, pa.Array], key: pa.Array, times: pa.Array) -> pa.RecordBatch:
        made = {**kept, "_key": key, "_event_id": key, "_event_time": times}
        arrays = [made[field.name] if field.name in made else pa.nulls(len(key), field.type) for field in self.schema]
        return pa.RecordBatch.from_arrays([array.cast(field.type) for array, field in zip(arrays, self.schema, strict=True)], schema=self.schema)

    def _judge(self, batch: pa.RecordBatch, rows: NDArray[np.int64], verdicts: dict[int, RecordVerdict], flags: NDArray[np.int64]) -> pa.RecordBatch:
        stream = self._stream

        def refuse(bad: NDArray[np.bool_], reason: str, detail: str) -> None:
            for i in rows[bad].tolist() if bad.any() else ():
                verdicts.setdefault(i, RecordVerdict(reason, detail))

        def finite(column: pa.Array, field: pa.Field) -> pa.Array:
            odd = _non_finite(column)
            if odd is None:
                return column
            if stream.rejects_non_finite or not field.nullable:
                way = "" if stream.rejects_non_finite else ", which its schema does not let be null"
                refuse(odd, "non_finite", f"expected a finite number in {field.name}{way}; found NaN or an infinity")
            flags[rows[odd]] |= NON_FINITE
            # Without a value whatever the fate: no expression of a refused row may see it either.
            return pc.if_else(pa.array(odd), pa.scalar(None, column.type), column)

        for i, field in enumerate(batch.schema):
            if pa.types.is_floating(field.type):
                column = batch.column(i)
                repaired = finite(column, field)
                if repaired is not column:
                    batch = batch.set_column(i, field.with_nullable(True), repaired)
        for name, expression in stream.derivations:
            values, failed = expression.attempt(batch)
            refuse(failed, "expression_failed", f"{name}: {expression.sql} has no value for this record")
            values = finite(values, pa.field(name, expression.type)) if pa.types.is_floating(expression.type) else values
            batch = batch.append_column(name, values)
        key = key_texts(batch.column(stream.key))
        refuse(_missing(batch.column(stream.key)), "missing_key", f"expected a value in {stream.key}, the key")
        identity = key_texts(batch.column(stream.event_id)) if stream.event_id else key
        if stream.event_id:
            refuse(_missing(batch.column(stream.event_id)), "missing_event_id", f"expected a value in {stream.event_id}, the event id")
        event_time = batch.column(stream.event_time)
        event_time = event_time if event_time.type == _TIME else event_time.cast(_TIME, safe=False)
        refuse(_absent(event_time), "missing_event_time", f"expected a time in {stream.event_time}")
        instant = int64_ms(event_time.view(pa.int64()).fill_null(0) if event_time.null_count else event_time)
        if len(instant) and (int(instant.min()) < _YEAR_1_MS or int(instant.max()) >= _YEAR_10000_MS):
            impossible = (instant < _YEAR_1_MS) | (instant >= _YEAR_10000_MS)
            refuse(impossible, "impossible_event_time", f"expected a year from 1 to 9999 in {stream.event_time}")
        if self._partitions > 1:
            homes = partitions_of([text.encode() for text in pc.fill_null(key, "").to_pylist()], self._partitions)
            for home in np.unique(homes[homes != self._partition]).tolist():
                detail = f"the key belongs in partition {home} of {self._partitions}, found in {self._partition}"
                refuse(homes == home, "misplaced_key", f"{detail}; set partitioner=murmur2_random in the producer")
        for expectation in stream.expectations:
            if expectation.rejects:
                holds, _ = expectation.check.attempt(batch)
                refuse(~_truth(holds), "expectation", f"expected {expectation.name}: {expectation.check.sql}")
        columns = [(batch.column(field.name), field.type) for field in self._columns]
        arrays = [column if column.type == kind else column.cast(kind) for column, kind in columns]
        return pa.RecordBatch.from_arrays([*arrays, key, identity, event_time], schema=self.schema)


def _placed(rows: pa.RecordBatch, at: NDArray[np.int64]) -> pa.RecordBatch:
    """Return a row for each record: the one that `at` names, shape (n,), or nulls where it is -1."""
    n = len(rows)
    if not np.array_equal(at[:n], np.arange(n)) or (at[n:] >= 0).any():
        return rows.take(pa.array(at, mask=at < 0))
    # Heartbeats come behind all others: appending them takes half as long as taking every row anew.
    nothing = [pa.nulls(len(at) - n, field.type) for field in rows.schema]
    return pa.concat_batches([rows, pa.RecordBatch.from_arrays(nothing, schema=rows.schema)])


def _deleted_key(key: bytes | None, kind: pa.DataType, is_uuid: bool) -> str | None:
    """Return the key of a record without a value as text of its column's type; None when it is none."""
    if not key or key.startswith(b"\x00"):
        return None
    try:
        written = key.decode()
        # Arrow reads 0x7 as 7, and 1 as true: another row's key.
        if (pa.types.is_integer(kind) and "x" in written.lower()) or (pa.types.is_boolean(kind) and written.lower() not in ("true", "false")):
            return None
        text: str | None = key_texts(pa.array([written]).cast(kind))[0].as_py()
        return uuid_text(text) if is_uuid and text is not None else text
    except (UnicodeDecodeError, KeyTextError, pa.ArrowException):
        return None


def _non_finite(column: pa.Array) -> NDArray[np.bool_] | None:
    """Say which values are there and not finite; None when there are none."""
    if not column.null_count:
        values = column.to_numpy(zero_copy_only=False)
        # A sum is finite only where all of it is; what merely overflows is looked at again.
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(values.sum()):
                return None
    odd = ~_truth(pc.fill_null(pc.is_finite(column), True))
    return odd if odd.any() else None


def _truth(condition: pa.Array) -> NDArray[np.bool_]:
    """Null is not true."""
    known = pc.fill_null(condition, False) if condition.null_count else condition
    return np.asarray(known.to_numpy(zero_copy_only=False), np.bool_)


def _absent(column: pa.Array) -> NDArray[np.bool_]:
    return ~_truth(column.is_valid()) if column.null_count else np.zeros(len(column), np.bool_)


def _missing(column: pa.Array) -> NDArray[np.bool_]:
    """Null, NaN and empty text are no values."""
    missing = _absent(column)
    if pa.types.is_floating(column.type):
        return missing | _truth(pc.is_nan(column))
    if pa.types.is_string(column.type):
        return np.asarray(missing | (_text_bytes(column) == 0), np.bool_)
    return missing


def _text_bytes(column: pa.Array) -> NDArray[np.int32]:
    """Return the lengths of texts, of nulls whatever lies there; shape (n,)."""
    if not len(column):
        return np.empty(0, np.int32)
    ends = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    return ends[1:] - ends[:-1]
