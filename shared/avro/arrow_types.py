"""Avro types as Arrow types: one column for each field, nested records as columns with dotted names."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.shared.avro.schema_tree import AvroType, UnreadableSchema, parse_record

_LOGICAL = {
    "timestamp-millis": pa.timestamp("ms"),
    "timestamp-micros": pa.timestamp("us"),
    "local-timestamp-millis": pa.timestamp("ms"),
    "local-timestamp-micros": pa.timestamp("us"),
    "date": pa.date32(),
    "time-millis": pa.time32("ms"),
    "time-micros": pa.time64("us"),
    "uuid": pa.string(),
}
_PLAIN = {
    "string": pa.string(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "bytes": pa.binary(),
    "fixed": pa.binary(),
    "enum": pa.string(),
}
_MOST_DIGITS = 38
_MOST_COLUMNS = 10_000


@dataclass(frozen=True, slots=True)
class LeafColumn:
    """A leaf of a record: its dotted name, its type without null, and whether it or a record around it may be null."""

    name: str
    type: AvroType
    nullable: bool


def arrow_type(kind: AvroType, name: str = "") -> pa.DataType:
    """Return the Arrow type of an Avro type without null; UnreadableSchema names the field and the way out."""
    if kind.kind == "union":
        raise UnreadableSchema(f"field {name}: unions of several types have no column, found {kind}; declare one type, or null and one type")
    if kind.kind == "null":
        raise UnreadableSchema(f"field {name}: a field that is always null has no column; leave it out of the application's schema (it is skipped)")
    if kind.logical.endswith("-nanos"):
        raise UnreadableSchema(f"field {name}: {kind.logical} is not carried; declare timestamp-micros, or a plain long")
    if kind.logical == "duration":
        raise UnreadableSchema(f"field {name}: duration is not carried; declare a plain fixed of 12 bytes, or leave it out (it is skipped)")
    if kind.logical == "decimal":
        if kind.precision > _MOST_DIGITS:
            raise UnreadableSchema(f"field {name}: decimals have at most {_MOST_DIGITS} digits, found a precision of {kind.precision}")
        return pa.decimal128(kind.precision, kind.scale)
    if kind.logical:
        return _LOGICAL[kind.logical]
    if kind.kind in ("array", "map"):
        item, null = kind.item.without_null()
        inner = pa.field("item" if kind.kind == "array" else "value", _item_type(item, name), null >= 0)
        return pa.list_(inner) if kind.kind == "array" else pa.map_(pa.string(), inner)
    return _PLAIN[kind.kind]


def _item_type(item: AvroType, name: str) -> pa.DataType:
    if item.kind == "record":
        fields = _fields(item, f"{name}[].")
        if not fields:
            out = "publish how many there are as a number, or leave it out (it is skipped)"
            raise UnreadableSchema(f"field {name}[]: a record without fields says nothing; {out}")
        return pa.struct(fields)
    return arrow_type(item, f"{name}[]")


def _fields(record: AvroType, prefix: str = "") -> list[pa.Field]:
    return [pa.field(column.name, arrow_type(column.type, prefix + column.name), column.nullable) for column in leaves(record)]


def leaves(record: AvroType) -> list[LeafColumn]:
    """Return the columns of a record, in its order; UnreadableSchema when it contains itself."""
    _refuse_cycles(record)
    columns = list(islice(_leaves(record, "", False), _MOST_COLUMNS + 1))
    if len(columns) > _MOST_COLUMNS:
        raise UnreadableSchema(f"expected at most {_MOST_COLUMNS} columns, found more")
    return columns


def leaf_type(schema: str, column: str) -> AvroType:
    """Return the Avro type, without null, of a column of a record schema (JSON)."""
    return next(leaf.type for leaf in leaves(parse_record(schema)) if leaf.name == column)


def _leaves(record: AvroType, prefix: str, nullable: bool) -> Iterator[LeafColumn]:
    for field in record.fields:
        inner, null = field.type.without_null()
        name = prefix + field.name
        if inner.kind == "record":
            yield from _leaves(inner, f"{name}.", nullable or null >= 0)
        else:
            yield LeafColumn(name, inner, nullable or null >= 0)


def _refuse_cycles(record: AvroType) -> None:
    open_, done = {id(record)}, set[int]()

    def visit(kind: AvroType, name: str) -> None:
        if id(kind) in done:
            return
        if kind.kind == "record":
            if id(kind) in open_:
                out = "leave it out of the application's schema (it is skipped)"
                raise UnreadableSchema(f"field {name}: a record that contains itself has no columns; {out}")
            open_.add(id(kind))
        for part, inner in [(f"{name}.{field.name}", field.type) for field in kind.fields] + [(name, branch) for branch in kind.branches]:
            visit(inner, part)
        open_.discard(id(kind))
        done.add(id(kind))

    for field in record.fields:
        visit(field.type, field.name)


def arrow_schema(schema: str | AvroType) -> pa.Schema:
    """Return the columns of an Avro record schema (JSON), in its order; a union with null gives a nullable column."""
    return _of_text(schema) if isinstance(schema, str) else pa.schema(_fields(schema))


@lru_cache(maxsize=256)
def _of_text(schema: str) -> pa.Schema:
    return pa.schema(_fields(parse_record(schema)))


def int64_ms(column: pa.Array) -> NDArray[np.int64]:
    """Return a timestamp (or integer) column without nulls as int64 milliseconds, shape (n,)."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ms"), safe=False).view(pa.int64()) if column.type.unit != "ms" else column.view(pa.int64())
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.int64)
