"""Random Avro types with values, for the conformance tests of the codec: what a draw needs, held to fastavro."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fastavro
from hypothesis import strategies as st

LOGICAL: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "string": ("string", st.text(max_size=8)),
    "bytes": ("bytes", st.binary(max_size=6)),
    "long": ("long", st.integers(-(2**63), 2**63 - 1)),
    "int": ("int", st.integers(-(2**31), 2**31 - 1)),
    "double": ("double", st.floats(allow_nan=False)),
    "float": ("float", st.floats(width=32, allow_nan=False)),
    "boolean": ("boolean", st.booleans()),
    "timestamp-millis": ({"type": "long", "logicalType": "timestamp-millis"}, st.integers(-(2**40), 2**40)),
    "timestamp-micros": ({"type": "long", "logicalType": "timestamp-micros"}, st.integers(-(2**50), 2**50)),
    "local-timestamp-millis": ({"type": "long", "logicalType": "local-timestamp-millis"}, st.integers(-(2**40), 2**40)),
    "local-timestamp-micros": ({"type": "long", "logicalType": "local-timestamp-micros"}, st.integers(-(2**50), 2**50)),
    "date": ({"type": "int", "logicalType": "date"}, st.integers(-700_000, 2_900_000)),
    "time-millis": ({"type": "int", "logicalType": "time-millis"}, st.integers(0, 86_399_999)),
    "time-micros": ({"type": "long", "logicalType": "time-micros"}, st.integers(0, 86_399_999_999)),
    "uuid": ({"type": "string", "logicalType": "uuid"}, st.uuids().map(str)),
    "decimal": ({"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}, st.decimals(-9_999_999, 9_999_999, places=2)),
    "wide decimal": ({"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 3}, st.decimals(-(10**30), 10**30, places=3)),
    "fixed": ({"type": "fixed", "name": "@", "size": 3}, st.binary(min_size=3, max_size=3)),
    "fixed decimal": (
        {"type": "fixed", "name": "@", "size": 9, "logicalType": "decimal", "precision": 20, "scale": 4}, st.decimals(-(10**14), 10**14, places=4),
    ),
    "enum": ({"type": "enum", "name": "@", "symbols": ["A", "B", "C"]}, st.sampled_from("ABC")),
}  # fmt: skip
_COUNTED = ("array", "map", "record")


@dataclass(frozen=True, slots=True)
class Drawn:
    """A type (JSON) and the strategy of its values, as fastavro takes them without the logical types that change Python's type."""

    declared: Any
    values: st.SearchStrategy[Any]


@st.composite
def types(draw: st.DrawFn, name: Callable[[], str], depth: int = 2) -> Drawn:
    """Draw a type that a column can have."""
    kind = draw(st.sampled_from([*LOGICAL, *(_COUNTED if depth else ())]))
    if kind in LOGICAL:
        declared, values = LOGICAL[kind]
        declared = {**declared, "name": name()} if isinstance(declared, dict) and "name" in declared else declared
        return Drawn(declared, values)
    if kind == "record":
        return draw(records(name, depth - 1))
    inner = draw(nullable(name, depth - 1))
    if kind == "array":
        return Drawn({"type": "array", "items": inner.declared}, st.lists(inner.values, max_size=3))
    return Drawn({"type": "map", "values": inner.declared}, st.dictionaries(st.text(max_size=3), inner.values, max_size=3))


@st.composite
def nullable(draw: st.DrawFn, name: Callable[[], str], depth: int = 2) -> Drawn:
    """Draw a type, or a union of null and a type."""
    inner = draw(types(name, depth))
    where = draw(st.sampled_from(["never", "first", "last"]))
    if where == "never":
        return inner
    return Drawn(["null", inner.declared] if where == "first" else [inner.declared, "null"], st.none() | inner.values)


@st.composite
def records(draw: st.DrawFn, name: Callable[[], str], depth: int = 2) -> Drawn:
    """Draw a record of one to four fields."""
    inner = [draw(nullable(name, depth)) for _ in range(draw(st.integers(1, 4)))]
    own = name()
    fields = [{"name": f"f{i}", "type": one.declared} for i, one in enumerate(inner)]
    return Drawn(
        {"type": "record", "name": own, "fields": fields}, st.fixed_dictionaries({f"f{i}": one.values for i, one in enumerate(inner)})
    )  # fmt: skip


@st.composite
def record_and_rows(draw: st.DrawFn, depth: int = 2) -> tuple[str, list[dict[str, Any]]]:
    """Draw a record schema and rows."""
    names = iter(range(10**6))
    drawn = draw(records(lambda: f"N{next(names)}", depth))
    return json.dumps(drawn.declared), draw(st.lists(drawn.values, min_size=1, max_size=5))


def plain(schema: Any) -> Any:  # Avro JSON is free-form
    """Return the schema without the logical types whose values are plain numbers or text here."""
    if isinstance(schema, dict):
        kept = {key: plain(value) for key, value in schema.items() if not (key == "logicalType" and value != "decimal")}
        return kept["type"] if set(kept) == {"type"} else kept
    return [plain(item) for item in schema] if isinstance(schema, list) else schema


def encoded(schema: str, row: dict[str, Any]) -> bytes:
    """Encode a row with fastavro."""
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(plain(json.loads(schema))), row)
    return body.getvalue()


def decoded(schema: str, reader: str, body: bytes) -> Any:
    """Decode a row with fastavro, resolved to the reader's schema."""
    stream = io.BytesIO(body)
    content = fastavro.schemaless_reader(stream, fastavro.parse_schema(plain(json.loads(schema))), fastavro.parse_schema(plain(json.loads(reader))))
    if stream.tell() != len(body):
        raise ValueError("trailing bytes")
    return content


def flattened(schema: dict[str, Any], row: dict[str, Any] | None, prefix: str = "") -> dict[str, Any]:
    """Return a row as columns: nested records with dotted names, maps as lists of pairs."""
    out: dict[str, Any] = {}
    for field in schema["fields"]:
        declared = field["type"]
        branches = [branch for branch in declared if branch != "null"] if isinstance(declared, list) else [declared]
        value = None if row is None else row[field["name"]]
        if isinstance(branches[0], dict) and branches[0]["type"] == "record":
            out |= flattened(branches[0], value, f"{prefix}{field['name']}.")
        else:
            out[prefix + field["name"]] = _column_value(branches[0], value)
    return out


def _column_value(declared: Any, value: Any) -> Any:
    if isinstance(declared, list):
        declared = next(branch for branch in declared if branch != "null")
    if value is None or not isinstance(declared, dict):
        return value
    if declared["type"] == "array":
        return [_column_value(declared["items"], one) for one in value]
    if declared["type"] == "map":
        return [(key, _column_value(declared["values"], one)) for key, one in value.items()]
    return flattened(declared, value) if declared["type"] == "record" else value
