"""Avro's rules of resolution, held to fastavro: what it reads of a writer's values is compatible, what it refuses is not."""

import io
import json
from typing import Any

import fastavro
import pytest

from tidemill.shared.avro.compatibility import incompatibilities


def record(*fields: Any, name: str = "R") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields)}


def field(kind: Any, name: str = "a", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


COLOUR = {"type": "enum", "name": "Colour", "symbols": ["red", "green"]}
INNER = record(field("int", "x"), name="Inner")
# Writer's field, reader's fields, values of the writer: together all that it may write.
CASES: list[tuple[dict[str, Any], list[dict[str, Any]], list[Any]]] = [
    (field("int"), [field("long")], [1]),
    (field("int"), [field("double")], [1]),
    (field("long"), [field("int")], [1]),
    (field("double"), [field("float")], [1.5]),
    (field("string"), [field("bytes")], ["text"]),
    (field("string"), [field("int")], ["text"]),
    (field("int"), [field("int"), field("string", "b")], [1]),
    (field("int"), [field("int"), field("string", "b", default="")], [1]),
    (field("int"), [], [1]),
    (field("int"), [field("int", "b", aliases=["a"])], [1]),
    (field("int"), [field(["null", "int"])], [1]),
    (field(["null", "int"]), [field("int")], [1, None]),
    (field(["null", "int"]), [field(["null", "long"])], [1, None]),
    (field(["null", "int", "string"]), [field(["null", "int"])], [1, None, "text"]),
    (field(COLOUR), [field({**COLOUR, "symbols": ["red", "green", "blue"]})], ["red", "green"]),
    (field(COLOUR), [field({**COLOUR, "symbols": ["red"]})], ["red", "green"]),
    (field(COLOUR), [field({**COLOUR, "symbols": ["red"], "default": "red"})], ["red", "green"]),
    (field({"type": "array", "items": "int"}), [field({"type": "array", "items": "double"})], [[1]]),
    (field({"type": "array", "items": "string"}), [field({"type": "array", "items": "int"})], [["text"]]),
    (field({"type": "map", "values": "int"}), [field({"type": "map", "values": "string"})], [{"k": 1}]),
    (field({"type": "fixed", "name": "F", "size": 2}), [field({"type": "fixed", "name": "F", "size": 3})], [b"ab"]),
    (field(INNER), [field({**INNER, "fields": [field("long", "x"), field("int", "y", default=0)]})], [{"x": 1}]),
    (field(INNER), [field({**INNER, "fields": [field("int", "x"), field("int", "y")]})], [{"x": 1}]),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_the_rules_are_fastavros(case: int) -> None:
    written, wanted, values = CASES[case]
    writer, reader = record(written), record(*wanted)
    readable = True
    for value in values:
        place = io.BytesIO()
        fastavro.schemaless_writer(place, fastavro.parse_schema(writer), {"a": value})
        place.seek(0)
        try:
            fastavro.schemaless_reader(place, fastavro.parse_schema(writer), fastavro.parse_schema(reader))
        except (fastavro.read.SchemaResolutionError, ValueError):
            readable = False
    problems = incompatibilities(json.dumps(writer), json.dumps(reader))
    assert (not problems) == readable, problems
    assert all("a" in why or "b" in why for why in problems)


def test_a_recursive_schema_ends() -> None:
    tree = record(field("int", "x"), field(["null", "R"], "next"))
    assert not incompatibilities(json.dumps(tree), json.dumps(tree))
    other = record(field("string", "x"), field(["null", "R"], "next"))
    assert incompatibilities(json.dumps(tree), json.dumps(other))
