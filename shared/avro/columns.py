"""Batches of framed Avro messages as Arrow columns and back, without a Python object per field.

A bad record costs itself only, and its verdict is its own: it does not depend on what else is in the batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.shared.avro.arrow_types import arrow_schema
from tidemill.shared.avro.framed import NULL, UNFRAMED, by_schema
from tidemill.shared.avro.leaf_columns import BatchTooLarge
from tidemill.shared.avro.record_reader import RecordReader
from tidemill.shared.avro.record_writer import RecordWriter
from tidemill.shared.avro.registry import SchemaNotFound, SchemaRegistry
from tidemill.shared.avro.schema_tree import MOST_KEPT_TEXT, UnreadableSchema, parse_record
from tidemill.shared.avro.wire import HEADER_BYTES, header
from tidemill.shared.avro.writer_ids import repeated_writer
from tidemill.shared.log.errors import InvalidRecord
from tidemill.shared.log.packed import Packed, packed_or_list, taken

_MOST_WRITERS = 1_000


@dataclass(frozen=True, slots=True)
class DecodedColumns:
    """What became of a batch of messages.

    Attributes
    ----------
    batch
        The good rows, in order, with the reader's columns.
    rows : int64 array, shape (batch.num_rows,)
        Positions of the good rows in the input.
    errors
        One per bad row, by position.
    writers : int64 array, shape (n,), or None
        Of every message of the input the schema id that it names, 0 where it names none that the registry has; None: not known. Not to be written to
        (`repeated_writer`).
    """

    batch: pa.RecordBatch
    rows: NDArray[np.int64]
    errors: Sequence[InvalidRecord]
    writers: NDArray[np.int64] | None = None


class ColumnEncoder:
    """Encodes Arrow batches to framed Avro messages.

    Parameters
    ----------
    registry, subject
        Where the schema is registered (at construction).
    schema
        Avro record schema, JSON.
    """

    def __init__(self, registry: SchemaRegistry, subject: str, schema: str) -> None:
        self.arrow = _columns(schema)
        self._writer = _record_writer(schema, header(registry.register(subject, schema)))
        self._required = [i for i, field in enumerate(self.arrow) if not field.nullable]

    def encode(self, batch: pa.RecordBatch) -> Packed:
        """Encode every row.

        Raises
        ------
        ValueError
            A column is missing, of another type, or holds what the schema cannot (a null, an unknown symbol): a defect of the caller.
        """
        return self._writer.encode(self.conform(batch))

    def conform(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the columns that are encoded, which are those that a reader of this schema has: what is handed on beside the records.

        Raises
        ------
        ValueError
            As `encode`, of an unknown symbol apart.
        """
        if batch.schema.equals(self.arrow) and not any(map(_null_count, map(batch.column, self._required))):
            return batch
        return pa.RecordBatch.from_arrays([self._column(batch, field) for field in self.arrow], schema=self.arrow)

    def _column(self, batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
        index = batch.schema.get_field_index(field.name)
        if index < 0:
            raise ValueError(f"expected a column {field.name!r} ({field.type}), found {batch.schema.names}")
        column = batch.column(index)
        if column.null_count and not field.nullable:
            raise ValueError(f"column {field.name!r} must not be null, found {column.null_count} nulls in {len(column)} rows")
        return column if column.type == field.type else column.cast(field.type)


class ColumnDecoder:
    """Decodes framed Avro messages, whatever schema each was written with, to the columns of one reader schema.

    Parameters
    ----------
    exact_length
        Refuse messages with bytes after their last field (a sign of another schema than the one named).
    writers
        What is made of a writer's schema before it is read: Kafka Connect says by other names what Avro has logical types for.
    """

    def __init__(self, registry: SchemaRegistry, reader_schema: str, exact_length: bool = False, writers: Callable[[str], str] | None = None) -> None:
        self._registry = registry
        self._as_meant = writers
        self._exact_length = exact_length
        self._reader = reader_schema
        self.arrow = _columns(reader_schema)
        self._writers: dict[int, RecordReader | InvalidRecord] = {}

    def decode(self, messages: Sequence[bytes | None]) -> DecodedColumns:
        """Decode a batch; a bad message becomes an error at its position and costs no other message.

        Raises
        ------
        TransientError
            A schema id is new, and the registry cannot be asked.
        """
        errors: list[InvalidRecord] = []
        parts: list[tuple[pa.RecordBatch, NDArray[np.int64]]] = []
        values = packed_or_list(messages)
        writers: NDArray[np.int64] | None = None
        for schema_id, rows in by_schema(values):
            place = np.arange(len(values)) if rows is None else rows
            reader = self._writer(schema_id)
            known = schema_id if schema_id in self._writers else 0
            if rows is None:
                writers = repeated_writer(known, len(values))
            else:
                writers = np.zeros(len(values), np.int64) if writers is None else writers
                writers[rows] = known
            if isinstance(reader, InvalidRecord):
                errors.extend(InvalidRecord(i, reader.reason, _detail(reader, values[i])) for i in place.tolist())
                continue
            packed = Packed.of(values if rows is None else taken(values, rows))
            if packed is None:
                raise TypeError("expected framed messages, found null")
            self._read(reader, packed, place, parts, errors)
        errors.sort(key=_index)
        return DecodedColumns(*self._assemble(parts), errors, np.zeros(len(values), np.int64) if writers is None else writers)

    def _writer(self, schema_id: int) -> RecordReader | InvalidRecord:
        """Return what reads a writer's records, or what is wrong with all of them (index 0)."""
        known = self._writers.get(schema_id)
        if known is not None:
            return known
        if schema_id == NULL:
            return InvalidRecord(0, "null_value", "expected a value, found null")
        if schema_id == UNFRAMED:
            return InvalidRecord(0, "not_framed", "expected a zero byte and a four-byte schema id, found ")
        try:
            text = self._registry.schema(schema_id)
            writer = text if self._as_meant is None else self._as_meant(text)
            resolved = _resolved if len(writer) > MOST_KEPT_TEXT else _kept
            reader: RecordReader | InvalidRecord = resolved(writer, self._reader, self._exact_length)
        except SchemaNotFound:
            return InvalidRecord(0, "unknown_schema_id", f"schema id {schema_id} is not in the registry; register it before publishing")
        except UnreadableSchema as error:
            reader = InvalidRecord(0, "incompatible_schema", f"schema id {schema_id}: {error}")
        if len(self._writers) >= _MOST_WRITERS:
            self._writers.pop(next(iter(self._writers)))
        self._writers[schema_id] = reader
        return reader

    def _read(
        self, reader: RecordReader, messages: Packed, place: NDArray[np.int64], parts: list[tuple[pa.RecordBatch, NDArray[np.int64]]],
        errors: list[InvalidRecord],
    ) -> None:  # fmt: skip
        begins, stops = messages.stops[:-1] + HEADER_BYTES, messages.stops[1:]
        try:
            columns, refused = reader.read(messages.content, begins, stops)
        except BatchTooLarge as error:
            half = len(messages) // 2
            if not half:
                errors.append(InvalidRecord(int(place[0]), "too_large", str(error)))
                return
            for part in (slice(0, half), slice(half, None)):
                self._read(reader, messages[part], place[part], parts, errors)
            return
        if refused:
            errors.extend(InvalidRecord(int(place[row]), reason, detail) for row, (reason, detail) in refused.items())
            good = np.ones(len(place), np.bool_)
            good[list(refused)] = False
            chosen = pa.array(np.flatnonzero(good))
            columns, place = [column.take(chosen) for column in columns], place[good]
        parts.append((pa.RecordBatch.from_arrays(columns, schema=self.arrow), place))

    def _assemble(self, parts: list[tuple[pa.RecordBatch, NDArray[np.int64]]]) -> tuple[pa.RecordBatch, NDArray[np.int64]]:
        parts = [part for part in parts if len(part[1])]
        if not parts:
            return pa.RecordBatch.from_pylist([], schema=self.arrow), np.empty(0, np.int64)
        if len(parts) == 1:
            return parts[0]
        rows = np.concatenate([rows for _, rows in parts])
        order = np.argsort(rows, kind="stable")
        batch = pa.concat_batches([batch for batch, _ in parts])
        return batch.take(pa.array(order)) if (np.diff(rows) < 0).any() else batch, rows[order]


def _resolved(writer: str, reader: str, exact: bool) -> RecordReader:
    return RecordReader(parse_record(writer), parse_record(reader), exact)


# Neither of them has a state: decoders and encoders of the same schemas share one in a process, which makes and ends many of them as partitions move.
_kept = lru_cache(maxsize=128)(_resolved)


@lru_cache(maxsize=128)
def _record_writer(schema: str, head: bytes) -> RecordWriter:
    return RecordWriter(parse_record(schema), head)


@lru_cache(maxsize=128)
def _columns(schema: str) -> pa.Schema:
    return arrow_schema(schema)


_null_count = attrgetter("null_count")
_index = attrgetter("index")


def _detail(verdict: InvalidRecord, value: bytes | None) -> str:
    return verdict.detail + repr((value or b"")[:HEADER_BYTES]) if verdict.reason == "not_framed" else verdict.detail


__all__ = ["ColumnDecoder", "ColumnEncoder", "DecodedColumns", "UnreadableSchema"]
