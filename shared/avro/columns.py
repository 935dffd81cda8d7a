"""Batches of Avro messages as Arrow columns and back, without a Python object per field.

pyruhvro decodes, and encodes what has arrays or maps; flat records have an encoder of their own. The guards around them are what makes it safe on a
public topic: a bad record costs itself only, invalid UTF-8 is found, a null never becomes 0.0 silently, and schemas with types that pyruhvro cannot
do go through fastavro.
"""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyruhvro
from numpy.typing import NDArray

from shared.avro.arrow_types import arrow_schema, is_columnar
from shared.avro.flat_decoder import FlatDecoder
from shared.avro.flat_encoder import FlatEncoder
from shared.avro.framed import NULL, UNFRAMED, Rows, bodies, by_schema
from shared.avro.records import parse
from shared.avro.registry import SchemaNotFound, SchemaRegistry
from shared.avro.wire import HEADER_BYTES, header
from shared.streaming.errors import InvalidRecord
from shared.streaming.packed import Packed, packed_or_list, taken


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
    """

    batch: pa.RecordBatch
    rows: NDArray[np.int64]
    errors: Sequence[InvalidRecord]


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
        self.arrow = arrow_schema(schema)
        self._schema = schema
        self._head = header(registry.register(subject, schema))
        self._header = pa.scalar(self._head, pa.binary())
        self._flat = FlatEncoder.of(schema, self._head)
        self._columnar = is_columnar(schema)
        self._parsed = parse(schema)
        self._required = [i for i, field in enumerate(self.arrow) if not field.nullable]

    def encode(self, batch: pa.RecordBatch) -> Sequence[bytes]:
        """Encode every row.

        Raises
        ------
        ValueError
            A column is missing, of another type, or has a null where the schema forbids it: a defect of the caller, not of the data.
        """
        if batch.num_rows == 0:
            return []
        if batch.schema.equals(self.arrow) and not any(map(_null_count, map(batch.column, self._required))):
            ready = batch
        else:
            ready = pa.RecordBatch.from_arrays([self._column(batch, field) for field in self.arrow], schema=self.arrow)
        if self._flat is not None:
            return self._flat.encode(ready)
        if self._columnar:
            parts = pyruhvro.serialize_record_batch(ready, self._schema, 1)
            return [value for part in parts for value in pc.binary_join_element_wise(self._header, part, _NOTHING).to_pylist()]
        return [self._encode_row(row) for row in _integer_times(ready).to_pylist()]

    def _column(self, batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
        index = batch.schema.get_field_index(field.name)
        if index < 0:
            raise ValueError(f"expected a column {field.name!r} ({field.type}), found {batch.schema.names}")
        column = batch.column(index)
        if column.null_count and not field.nullable:
            raise ValueError(f"column {field.name!r} must not be null, found {column.null_count} nulls in {len(column)} rows")
        return column if column.type == field.type else column.cast(field.type)

    def _encode_row(self, row: dict[str, Any]) -> bytes:
        body = io.BytesIO()
        body.write(self._head)
        fastavro.schemaless_writer(body, self._parsed, row)
        return body.getvalue()


class ColumnDecoder:
    """Decodes framed Avro messages, whatever schema each was written with, to the columns of one reader schema.

    Parameters
    ----------
    exact_length
        Refuse messages with bytes after their last field (a sign of another schema than the one named). Records with arrays or maps are encoded
        again for it, so it is for what others publish, not for what this system wrote itself.
    """

    def __init__(self, registry: SchemaRegistry, reader_schema: str, exact_length: bool = False) -> None:
        self._registry = registry
        self._exact_length = exact_length
        self._reader_schema = reader_schema
        self.arrow = arrow_schema(reader_schema)
        self._writers: dict[int, _Writer] = {}

    def decode(self, messages: Sequence[bytes | None]) -> DecodedColumns:
        """Decode a batch; a bad message becomes an error at its position and costs no other message."""
        errors: list[InvalidRecord] = []
        parts: list[tuple[pa.RecordBatch, NDArray[np.int64]]] = []
        values = packed_or_list(messages)
        for schema_id, rows in by_schema(values):
            writer = self._writers.get(schema_id) or self._new_writer(schema_id, rows, values, errors)
            if writer is not None:
                place = np.arange(len(values)) if rows is None else rows
                whole = writer.decode_whole(Packed.of(values if rows is None else taken(values, rows)))
                if whole is not None:
                    parts.append((whole, place))
                else:
                    parts.extend(self._decode_group(writer, bodies(values, rows), place, errors))
        errors.sort(key=lambda error: error.index)
        return DecodedColumns(*self._assemble(parts), errors)

    def _new_writer(self, schema_id: int, chosen: Rows, values: Sequence[bytes | None], errors: list[InvalidRecord]) -> "_Writer | None":
        rows = range(len(values)) if chosen is None else chosen.tolist()
        if schema_id == NULL:
            errors.extend(InvalidRecord(i, "null_value", "expected a value, found null") for i in rows)
        elif schema_id == UNFRAMED:
            errors.extend(
                InvalidRecord(i, "not_framed", f"expected a zero byte and a four-byte schema id, found {(values[i] or b'')[:HEADER_BYTES]!r}")
                for i in rows
            )
        else:
            try:
                text = self._registry.schema(schema_id)
                self._writers[schema_id] = _Writer(text, self._reader_schema, self.arrow, self._exact_length)
            except SchemaNotFound:
                errors.extend(
                    InvalidRecord(i, "unknown_schema_id", f"schema id {schema_id} is not in the registry; register it before publishing")
                    for i in rows
                )
            except UnreadableSchema as error:
                errors.extend(InvalidRecord(i, "incompatible_schema", f"schema id {schema_id}: {error}") for i in rows)
        return self._writers.get(schema_id)

    def _decode_group(
        self, writer: "_Writer", bodies: list[bytes], rows: NDArray[np.int64], errors: list[InvalidRecord]
    ) -> Iterator[tuple[pa.RecordBatch, NDArray[np.int64]]]:
        """Decode one writer's messages; on failure halve the batch until the culprits stand alone."""
        try:
            resolved, missing = writer.resolve(writer.decode(bodies))
        except _Undecodable as error:
            if len(bodies) == 1:
                errors.append(InvalidRecord(int(rows[0]), error.reason, str(error)))
                return
            half = len(bodies) // 2
            yield from self._decode_group(writer, bodies[:half], rows[:half], errors)
            yield from self._decode_group(writer, bodies[half:], rows[half:], errors)
            return
        if missing is not None:
            field, mask = missing
            errors.extend(InvalidRecord(int(i), "missing_value", f"field {field} is null and has no default for this reader") for i in rows[mask])
            keep = ~mask
            yield from self._decode_group(writer, [body for body, kept in zip(bodies, keep.tolist(), strict=True) if kept], rows[keep], errors)
            return
        yield resolved, rows

    def _assemble(self, parts: list[tuple[pa.RecordBatch, NDArray[np.int64]]]) -> tuple[pa.RecordBatch, NDArray[np.int64]]:
        parts = [part for part in parts if len(part[1])]
        if not parts:
            return pa.RecordBatch.from_pylist([], schema=self.arrow), np.empty(0, np.int64)
        if len(parts) == 1:
            return parts[0]
        rows = np.concatenate([rows for _, rows in parts])
        order = np.argsort(rows, kind="stable")
        table = pa.Table.from_batches([batch for batch, _ in parts], self.arrow)
        if (np.diff(rows) < 0).any():
            table = table.take(pa.array(order))
        return table.combine_chunks().to_batches()[0], rows[order]


class UnreadableSchema(TypeError):
    """A writer's schema cannot be resolved to the reader's."""


class _Undecodable(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class _Writer:
    """How messages of one writer schema become the reader's columns."""

    def __init__(self, schema: str, reader_schema: str, arrow: pa.Schema, exact_length: bool) -> None:
        self._exact_length = exact_length
        self._schema = schema
        self._arrow = arrow
        reader = json.loads(reader_schema)
        try:
            own = json.loads(schema)
            self._own = arrow_schema(schema)
            self._parsed = parse(schema)
        except (AttributeError, TypeError, KeyError, ValueError, fastavro.schema.SchemaParseException, fastavro.schema.UnknownType) as error:
            # Whoever publishes may have registered anything: another schema language, a type that is no record.
            raise UnreadableSchema(f"expected an Avro record schema, found {schema[:80]} ({error})") from error
        self._columnar = is_columnar(schema) and is_columnar(reader_schema)
        self._same = own["fields"] == reader["fields"]
        self._flat = FlatDecoder.of(schema, self._own)
        self._required = [i for i, field in enumerate(arrow) if not field.nullable]
        self._sources = [_source(field, target, self._own) for field, target in zip(reader["fields"], arrow, strict=True)]

    def decode_whole(self, messages: Packed | None) -> pa.RecordBatch | None:
        """Decode framed messages that are all as they should be, to the reader's columns; None when that is not so, or not easy to tell."""
        batch = None if self._flat is None or messages is None else self._flat.decode(messages, HEADER_BYTES)
        if batch is None:
            return None
        try:
            resolved, missing = self.resolve(batch)
        except _Undecodable:
            return None
        return resolved if missing is None else None

    def decode(self, bodies: list[bytes]) -> pa.RecordBatch:
        if not bodies:
            return pa.RecordBatch.from_pylist([], schema=self._own)
        if not self._columnar:
            return self._decode_rows(bodies)
        try:
            batch = pyruhvro.deserialize_array(bodies, self._schema)
            batch.validate(full=True)
        except pa.ArrowInvalid as error:
            raise _Undecodable("invalid_utf8", str(error)) from error
        except ValueError as error:
            raise _Undecodable("truncated" if "end of buffer" in str(error) else "undecodable", str(error)) from error
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # pyo3's panic is a BaseException of a module that cannot be imported
                raise
            raise _Undecodable("undecodable", str(error)) from error
        if self._exact_length:
            self._check_length(batch, bodies)
        return batch

    def _check_length(self, batch: pa.RecordBatch, bodies: list[bytes]) -> None:
        """Encode again and compare lengths; a single message that differs may still be right (other block sizes), which fastavro decides."""
        again = np.concatenate([pc.binary_length(part).to_numpy() for part in pyruhvro.serialize_record_batch(batch, self._schema, 1)])
        if (again == np.fromiter(map(len, bodies), np.int64, len(bodies))).all():
            return
        if len(bodies) == 1:
            stream = io.BytesIO(bodies[0])
            try:
                fastavro.schemaless_reader(stream, self._parsed, None)
            except (EOFError, ValueError, IndexError, TypeError, OverflowError) as error:
                raise _Undecodable("undecodable", f"{type(error).__name__}: {error}") from error
            if stream.tell() == len(bodies[0]):
                return
        raise _Undecodable("trailing_bytes", f"expected {int(again[0])} bytes after the header, found {len(bodies[0])}")

    def _decode_rows(self, bodies: list[bytes]) -> pa.RecordBatch:
        rows = []
        for body in bodies:
            stream = io.BytesIO(body)
            try:
                rows.append(fastavro.schemaless_reader(stream, self._parsed, None))
            except UnicodeDecodeError as error:
                raise _Undecodable("invalid_utf8", str(error)) from error
            except (EOFError, ValueError, IndexError, TypeError, OverflowError) as error:
                raise _Undecodable("truncated" if isinstance(error, EOFError) else "undecodable", f"{type(error).__name__}: {error}") from error
            if self._exact_length and stream.tell() != len(body):
                raise _Undecodable("trailing_bytes", f"expected {stream.tell()} bytes after the header, found {len(body)}")
        try:
            return pa.RecordBatch.from_pylist(rows, schema=self._own)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise _Undecodable("undecodable", str(error)) from error

    def resolve(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, tuple[str, NDArray[np.bool_]] | None]:
        """Give the reader's columns; or the field whose nulls the reader does not allow, with the rows."""
        if self._same and batch.schema.equals(self._arrow) and not any(map(_null_count, map(batch.column, self._required))):
            return batch, None
        n = batch.num_rows
        columns = []
        for field, (index, default) in zip(self._arrow, self._sources, strict=True):
            column = batch.column(index) if index >= 0 else pa.array([default] * n, field.type)
            if column.null_count and not field.nullable:
                return batch, (field.name, np.asarray(column.is_null().to_numpy(zero_copy_only=False), np.bool_))
            columns.append(column if column.type == field.type else _promoted(column, field))
        return pa.RecordBatch.from_arrays(columns, schema=self._arrow), None


def _promoted(column: pa.Array, field: pa.Field) -> pa.Array:
    """Cast as Avro promotes: numbers lose digits in silence, bytes must be text."""
    if field.type == pa.timestamp("ms") and column.type == pa.int32():
        column = column.cast(pa.int64())
    try:
        return column.cast(field.type, safe=pa.types.is_binary(column.type))
    except pa.ArrowInvalid as error:
        raise _Undecodable("invalid_utf8", f"{field.name}: {error}") from error


_null_count = attrgetter("null_count")
_NOTHING = pa.scalar(b"", pa.binary())
_PROMOTIONS = {
    pa.int32(): (pa.int64(), pa.float32(), pa.float64(), pa.timestamp("ms")),
    pa.int64(): (pa.float32(), pa.float64(), pa.timestamp("ms")),
    pa.timestamp("ms"): (pa.int64(),),
    pa.float32(): (pa.float64(),),
    pa.string(): (pa.binary(),),
    pa.binary(): (pa.string(),),
}


def _source(field: dict[str, Any], target: pa.Field, own: pa.Schema) -> tuple[int, Any]:
    """Return where a reader field comes from: index of the writer's column, or -1 and the default."""
    for name in (field["name"], *field.get("aliases", ())):
        index = own.get_field_index(name)
        if index >= 0:
            kind = own.field(index).type
            if not (kind.equals(target.type) or target.type in _PROMOTIONS.get(kind, ()) or (pa.types.is_nested(kind) and kind.id == target.type.id)):
                raise UnreadableSchema(f"field {name}: expected {target.type} or what promotes to it, the writer has {kind}")
            return index, None
    if "default" not in field:
        raise UnreadableSchema(f"field {field['name']} is not in the writer's schema and has no default")
    return -1, field["default"]


def _integer_times(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [column.view(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
