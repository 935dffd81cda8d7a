"""Avro's rules of resolution, held to fastavro on a matrix of schema pairs: what is read, and what is refused."""

import json
from itertools import product
from typing import Any

import fastavro
import pytest

from tests.property.avro_types import decoded, encoded, flattened
from tests.property.test_avro_conformance import rows_of
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.avro.wire import header

E = {"type": "enum", "name": "E"}
SIDE = {"type": "record", "name": "S"}
# Writer's or reader's type, and values of it.
TYPES: dict[str, tuple[Any, list[Any]]] = {
    "int": ("int", [0, -7, 2**24]),
    "long": ("long", [0, 2**40]),
    "float": ("float", [0.5]),
    "double": ("double", [0.1]),
    "string": ("string", ["", "é"]),
    "bytes": ("bytes", [b"ab", b"\xff"]),
    "boolean": ("boolean", [True]),
    "maybe int": (["null", "int"], [None, 5]),
    "string or null": (["string", "null"], [None, "x"]),
    "any": (["null", "string", "long"], [None, "x", 3]),
    "enum AB": ({**E, "symbols": ["A", "B"]}, ["A", "B"]),
    "enum BC": ({**E, "symbols": ["B", "C"]}, ["B", "C"]),
    "enum BC or C": ({**E, "symbols": ["B", "C"], "default": "C"}, ["B", "C"]),
    "enum F": ({"type": "enum", "name": "F", "symbols": ["A", "B"]}, ["A"]),
    "fixed 2": ({"type": "fixed", "name": "X", "size": 2}, [b"ab"]),
    "fixed 3": ({"type": "fixed", "name": "X", "size": 3}, [b"abc"]),
    "ints": ({"type": "array", "items": "int"}, [[], [1, 2]]),
    "doubles": ({"type": "array", "items": "double"}, [[], [0.5]]),
    "maybe strings": ({"type": "array", "items": ["null", "string"]}, [[], ["a", None], ["b"]]),
    "strings": ({"type": "array", "items": "string"}, [[], ["a"]]),
    "map of int": ({"type": "map", "values": "int"}, [{}, {"k": 1}]),
    "map of long": ({"type": "map", "values": "long"}, [{"k": 2**40}]),
    "record a": ({**SIDE, "fields": [{"name": "a", "type": "int"}]}, [{"a": 1}]),
    "record b or 4": ({**SIDE, "fields": [{"name": "b", "type": "long", "default": 4}]}, [{"b": 2}]),
    "record ba": ({**SIDE, "fields": [{"name": "b", "type": "long"}, {"name": "a", "type": "long"}]}, [{"a": 1, "b": 2}]),
    "record c was a": ({**SIDE, "fields": [{"name": "c", "type": "double", "aliases": ["a"]}]}, [{"c": 0.5}]),
}
READERS = [name for name in TYPES if name != "any"]
# The writer's and the reader's items differ, but there are none: the specification's reader never sees one. fastavro compares the types before.
EMPTY: list[Any] = [[], {}]


def _record(declared: Any, extra: list[dict[str, Any]] | None = None) -> str:  # Avro JSON is free-form
    fields = [{"name": "x", "type": declared}, {"name": "end", "type": "string"}]
    return json.dumps({"type": "record", "name": "R", "fields": [*(extra or []), *fields]})


@pytest.mark.parametrize("theirs", TYPES)
def test_a_matrix_of_types_is_read_or_refused_as_fastavro_does(theirs: str) -> None:
    for ours, hidden in product(READERS, (False, True)):
        hidden_field = [{"name": "hidden", "type": {"type": "map", "values": ["null", {"type": "array", "items": ["int", "string"]}]}}]
        writer, reader = _record(TYPES[theirs][0], hidden_field if hidden else None), _record(TYPES[ours][0])
        registry = MemorySchemaRegistry()
        registry.register("s", writer)
        rows = [{"x": value, "end": "z", **({"hidden": {"k": [1, "a"]}} if hidden else {})} for value in TYPES[theirs][1]]
        bodies = [encoded(writer, row) for row in rows]
        reading = ColumnDecoder(registry, reader, exact_length=True).decode([header(1) + body for body in bodies])
        ok = dict(zip(reading.rows.tolist(), rows_of(reading.batch), strict=True))
        for i, (row, body) in enumerate(zip(rows, bodies, strict=True)):
            if row["x"] in EMPTY:
                continue
            try:
                expected = flattened(json.loads(reader), decoded(writer, reader, body))
            except (fastavro.read.SchemaResolutionError, ValueError, KeyError, TypeError):
                assert i not in ok, (theirs, ours, row, ok.get(i))
                continue
            if ours in ("string", "strings", "string or null") and expected["x"] == "\udcff":
                continue
            assert ok.get(i) == expected, (theirs, ours, row, reading.errors)


def test_an_int_out_of_range_is_refused_and_not_cut_whoever_reads_it() -> None:
    registry = MemorySchemaRegistry()
    schema = _record("int")
    registry.register("s", schema)
    bodies = [bytes.fromhex(body) + b"\x02z" for body in ("feffffffffffffffff01", "80808080a00b", "feffffff1f", "feffffff0f", "ffffffff0f")]
    for reader in (schema, _record("long"), _record("double")):
        reading = ColumnDecoder(registry, reader, exact_length=True).decode([header(1) + body for body in bodies])
        assert [(error.index, error.reason) for error in reading.errors] == [(i, "out_of_range") for i in (0, 1, 2)]
        assert reading.batch.column("x").to_pylist() == [2**31 - 1, -(2**31)]


def test_two_declared_units_are_never_mixed() -> None:
    registry = MemorySchemaRegistry()
    micros, millis = ({"type": "long", "logicalType": f"timestamp-{unit}"} for unit in ("micros", "millis"))
    registry.register("s", _record(micros))
    (error,) = ColumnDecoder(registry, _record(millis)).decode([header(1) + encoded(_record(micros), {"x": 5, "end": ""})]).errors
    assert error.reason == "incompatible_schema"
    assert "another unit" in error.detail


def _read(writer: str, reader: str, rows: list[dict[str, Any]]) -> tuple[dict[int, dict[str, Any]], list[str]]:
    registry = MemorySchemaRegistry()
    registry.register("s", writer)
    reading = ColumnDecoder(registry, reader, exact_length=True).decode([header(1) + encoded(writer, row) for row in rows])
    reading.batch.validate(full=True)
    return dict(zip(reading.rows.tolist(), rows_of(reading.batch), strict=True)), [error.reason for error in reading.errors]


def _holding(record: Any) -> Any:
    return {**SIDE, "fields": [{"name": "deep", "type": {**record, "name": "D"}}]}


A, B = ({**SIDE, "fields": [{"name": "a", "type": kind}, {"name": "b", "type": "int"}]} for kind in ("int", "boolean"))


@pytest.mark.parametrize(
    ("theirs", "ours", "value"),
    [
        (["null", A], ["null", B], {"a": 1, "b": 2}),
        ([A, "null"], ["null", {**SIDE, "fields": [*A["fields"], {"name": "c", "type": "int"}]}], {"a": 1, "b": 2}),
        (["null", "double"], ["null", A], 0.5),
        (["null", "double", A], [A, "null"], 0.5),
        (["null", _holding(A)], ["null", _holding(B)], {"deep": {"a": 1, "b": 2}}),
        ([{"type": "map", "values": "long"}, "null"], ["string", "null"], {"k": 1}),
        (["null", {"type": "array", "items": "long"}], ["null", "bytes"], [1]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("within", [False, True])
def test_null_is_read_whatever_else_the_union_holds(theirs: Any, ours: Any, value: Any, within: bool) -> None:
    def of(declared: Any) -> str:
        return _record({"type": "array", "items": declared} if within else declared)

    rows = [{"x": [one] if within else one, "end": "z"} for one in (None, value, None)]
    read, refused = _read(of(theirs), of(ours), rows)
    assert refused == ["incompatible_schema"]
    expected = {"x": [None], "end": "z"} if within else flattened(json.loads(of(ours)), {"x": None, "end": "z"})
    assert read == {0: expected, 2: expected}


@pytest.mark.parametrize("kind", ["array", "map"])
def test_an_item_is_there_where_a_record_within_it_is_null(kind: str) -> None:
    inner = {"type": "record", "name": "I", "fields": [{"name": "b", "type": "int"}]}
    item = {"type": "record", "name": "M", "fields": [{"name": "a", "type": "int"}, {"name": "inner", "type": ["null", inner]}]}
    items = [{"a": 1, "inner": None}, {"a": 2, "inner": {"b": 3}}]
    for declared, values in ((item, items), (["null", item], [*items, None])):
        schema = _record({"type": kind, "items" if kind == "array" else "values": declared})
        row = {"x": values if kind == "array" else {str(i): value for i, value in enumerate(values)}, "end": "z"}
        read, refused = _read(schema, schema, [row, row])
        assert refused == []
        assert read == dict.fromkeys((0, 1), flattened(json.loads(schema), row))
