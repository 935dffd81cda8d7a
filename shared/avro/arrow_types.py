"""Avro types as Arrow types, and which of them the columnar codec can do."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_PRIMITIVES = {
    "string": pa.string(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "bytes": pa.binary(),
}
_COLUMNAR = frozenset({"string", "int", "long", "float", "double", "boolean"})


def _without_null(kind: Any) -> tuple[Any, bool]:  # noqa: ANN401, RUF100 - Avro JSON is free-form
    if not isinstance(kind, list):
        return kind, False
    branches = [branch for branch in kind if branch != "null"]
    if len(branches) != 1:
        raise TypeError(f"unions of several types have no column: {json.dumps(kind)}; expected one type, or null and one type")
    return branches[0], len(branches) < len(kind)


def arrow_type(kind: Any) -> pa.DataType:  # noqa: ANN401, RUF100
    """Return the Arrow type of an Avro type without null; TypeError when it has none."""
    if isinstance(kind, str):
        if kind in _PRIMITIVES:
            return _PRIMITIVES[kind]
        raise TypeError(f"Avro type {kind!r} has no column type")
    logical, base = kind.get("logicalType"), kind["type"]
    if logical == "timestamp-millis" and base == "long":
        return pa.timestamp("ms")
    if logical == "timestamp-micros" and base == "long":
        return pa.timestamp("us")
    if logical == "date" and base == "int":
        return pa.date32()
    if base == "enum":
        return pa.string()
    if base == "array":
        item, _ = _without_null(kind["items"])
        return pa.list_(arrow_type(item))
    if base == "map":
        value, _ = _without_null(kind["values"])
        return pa.map_(pa.string(), arrow_type(value))
    if isinstance(base, dict | list):
        return arrow_type(_without_null(base)[0])
    return arrow_type(base)


def arrow_schema(schema: str) -> pa.Schema:
    """Return the columns of an Avro record schema (JSON), in its order; a union with null gives a nullable column."""
    fields = []
    for field in json.loads(schema)["fields"]:
        kind, nullable = _without_null(field["type"])
        fields.append(pa.field(field["name"], arrow_type(kind), nullable))
    return pa.schema(fields)


def is_columnar(schema: str) -> bool:
    """Say whether every field is of a type that pyruhvro encodes and decodes faithfully (measured: no bytes, fixed, decimal, uuid)."""
    return all(_is_columnar_type(field["type"]) for field in json.loads(schema)["fields"])


def _is_columnar_type(kind: Any) -> bool:  # noqa: ANN401, RUF100
    if isinstance(kind, list):
        branches = [branch for branch in kind if branch != "null"]
        return len(branches) == 1 and kind[0] == "null" and _is_columnar_type(branches[0])
    if isinstance(kind, str):
        return kind in _COLUMNAR
    if kind["type"] == "long":
        return kind.get("logicalType") in (None, "timestamp-millis")
    if kind["type"] == "array":
        return kind["items"] in _COLUMNAR
    if kind["type"] == "map":
        return kind["values"] in _COLUMNAR
    return kind["type"] in _COLUMNAR and "logicalType" not in kind


def int64_ms(column: pa.Array) -> NDArray[np.int64]:
    """Return a timestamp (or integer) column without nulls as int64 milliseconds, shape (n,)."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ms")).view(pa.int64()) if column.type.unit != "ms" else column.view(pa.int64())
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.int64)
