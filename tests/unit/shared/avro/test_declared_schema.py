"""What `check` refuses in an application's own schema, by field and with a way out; defaults are held to fastavro's verdict on the value."""

import json
from typing import Any

import fastavro
import pytest

from tidemill.shared.avro.declared_schema import check_declared
from tidemill.shared.avro.schema_tree import UnreadableSchema, parse_record

ENUM = {"type": "enum", "name": "E", "symbols": ["A", "B"]}
FIXED = {"type": "fixed", "name": "F", "size": 2}
INNER = {"type": "record", "name": "I", "fields": [{"name": "a", "type": "int"}, {"name": "b", "type": "string", "default": "x"}]}
NUMBERS = [0, 1, -1, 2**31 - 1, 2**31, -(2**31) - 1, 2**63 - 1, 2**63, 1.5, 1e39, True, None]
TEXTS = ["", "A", "C", "ab", "abc", "\u00ff", "\u0100", "\ud800"]
NESTED = [[], [1], ["a"], [None], {}, {"a": 1}, {"a": "1"}, {"a": 1, "b": "y"}, {"a": 1, "b": 2}, {"b": "y"}, {"a": None}]
TYPES: list[Any] = [
    "int", "long", "float", "double", "boolean", "string", "bytes", "null", ENUM, FIXED, INNER, {"type": "array", "items": "int"},
    {"type": "map", "values": "int"}, ["null", "string"], ["int", "null"], ["null", ENUM], {"type": "array", "items": ["null", "string"]},
    {"type": "array", "items": INNER}, {"type": "map", "values": ["null", "int"]},
]  # fmt: skip


def decimal(precision: Any, scale: Any = 0, base: Any = "bytes") -> dict[str, Any]:
    return {**(base if isinstance(base, dict) else {"type": base}), "logicalType": "decimal", "precision": precision, "scale": scale}


def schema(*fields: Any, **more: Any) -> str:
    return json.dumps({"type": "record", "name": "R", "fields": [{"name": "id", "type": "string"}, *fields], **more})


def field(kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": "x", "type": kind, **more}


def by_fastavro(kind: Any, default: Any) -> bool:
    """Whether fastavro writes the value that a default stands for; bytes are given as such, which JSON has as text of their code points."""
    branches = kind if isinstance(kind, list) else [kind]

    def meant(kind: Any, value: Any) -> Any:
        name = kind if isinstance(kind, str) else kind["type"] if isinstance(kind, dict) else ""
        if isinstance(kind, list):
            return next((meant(one, value) for one in kind if by_fastavro(one, value)), object())
        if name in ("bytes", "fixed"):
            return value.encode("latin-1") if isinstance(value, str) and all(ord(point) < 256 for point in value) else object()
        if name == "array" and isinstance(value, list):
            return [meant(kind["items"], one) for one in value]
        if name == "record" and isinstance(value, dict):
            return {one["name"]: meant(one["type"], value[one["name"]]) for one in kind["fields"] if one["name"] in value}
        return value

    def fits(one: Any) -> bool:
        try:
            return bool(fastavro.validation.validate(meant(one, default), fastavro.parse_schema(json.loads(json.dumps(one))), raise_errors=False))
        except UnicodeError:
            return False

    return any(map(fits, branches))


@pytest.mark.parametrize("kind", TYPES, ids=json.dumps)
def test_a_default_is_taken_where_fastavro_writes_its_value(kind: Any) -> None:
    refused = []
    for default in [*NUMBERS, *TEXTS, *NESTED]:
        try:
            check_declared(schema(field(kind, default=default)))
            taken = True
        except UnreadableSchema as error:
            taken = False
            assert str(error).startswith("field x: expected a default that its type can have"), error
        refused.append((default, taken, by_fastavro(kind, default)))
    # fastavro writes 1e39 as a float's infinity, and half a pair of surrogates it can say only when it writes; an unknown field it passes over.
    narrow = {1e39} if kind == "float" else set()
    differ = [one for one in refused if one[1] != one[2] and not (isinstance(one[0], float) and one[0] in narrow) and one[0] != "\ud800"]
    assert not differ
    assert any(taken for _, taken, _ in refused) and not all(taken for _, taken, _ in refused)


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({"name": "a.b", "type": "int"}, r"field a\.b: expected a field's name of letters of ASCII.*rename it"),
        ({"name": "", "type": "int"}, "expected a field's name"),
        ({"name": "größe", "type": "int"}, "field größe: expected a field's name.*rename it"),
        ({"name": "1st", "type": "int"}, "field 1st"),
        (field("int", aliases=["a-b"]), "field x: expected a field's alias"),
        (field("int", aliases=["id"]), "field x: expected the alias 'id' for one field only"),
        (field({**FIXED, "size": 0}), "field x: expected a fixed of one byte and more.*leave the field out"),
        (field({**FIXED, "name": "a-b"}), "field x: expected a name of the fixed"),
        (field({**FIXED, "namespace": "a..b"}), "field x: expected a name of the fixed"),
        (field({**FIXED, "namespace": "1a"}), "field x: expected a name of the fixed"),
        (field({**FIXED, "name": "string"}), "field x: expected a name of fixed that is no primitive type's"),
        (field({**FIXED, "aliases": ["R"]}), "field x: expected R as name or alias of one type"),
        (field({**ENUM, "symbols": ["A", "A"]}), "field x: expected each symbol of the enum E once, found A twice"),
        (field({**ENUM, "symbols": ["a-b"]}), "field x: expected a symbol of the enum E"),
        (field({"type": "long", "logicalType": "date"}), "field x: expected date on int, found it on 'long'; declare it on int"),
        (field({"type": "int", "logicalType": "timestamp-millis"}), "field x: expected timestamp-millis on long"),
        (field({"type": "string", "logicalType": "decimal", "precision": 3}), "field x: expected decimal on bytes or fixed"),
        (field({**FIXED, "logicalType": "uuid"}), "field x: expected uuid on a fixed of 16 bytes, found 2"),
        (field("int", logicalType="date"), 'field x: expected the logicalType date within the type.*{"type": "int", "logicalType": "date"}'),
        (field(decimal(0)), "field x: expected a decimal with a precision of 1 and more"),
        (field(decimal(None)), "field x: expected a decimal with a precision"),
        (field(decimal(2, 3)), "field x: expected a decimal with .* scale from 0 to it, found precision 2, scale 3"),
        (field(decimal(2, -1)), "field x: expected a decimal"),
        (field(decimal(5, 0, FIXED)), "field x: expected a decimal of at most 4 digits on a fixed of 2 bytes, found precision 5"),
        (field(decimal(4, 2), default=1), r'field x: expected a default.*for this number "d"'),
        (field(decimal(3, 2), default="\u0004\u0000"), "field x: expected a default.*at most 3 digits"),
        (field(decimal(4, 2, FIXED), default="a"), "field x: expected a default.*2 bytes, not 1"),
        (field(["int", {"type": "int", "logicalType": "date"}]), "field x: expected each type once in a union, found int twice"),
        (field({"type": {"type": "int"}}), 'field x: expected the name of a type as its type, found {"type": "int"} within one more; write'),
        (field(["null", "null"]), "field x: expected each type once in a union, found null twice"),
        (field([{"type": "array", "items": "int"}, {"type": "array", "items": "long"}]), "found array twice"),
        (field({"type": "array", "items": {**INNER, "fields": [{"name": "b", "type": {**FIXED, "size": 0}}]}}), r"field x\[\]\.b: "),
        (field({**INNER, "fields": [{"name": "y", "type": "int", "default": "z"}]}), r"field x\.y: expected a default"),
        (field({"type": "int", "logicalType": "date"}, default=10_000_000), "a day of the years 1 to 9999"),
        (field({"type": "string", "logicalType": "uuid"}, default="x"), "a uuid such as"),
    ],
)  # fmt: skip
def test_what_is_not_avros_is_refused_with_the_fields_name_and_a_way_out(declared: dict[str, Any], says: str) -> None:
    with pytest.raises(UnreadableSchema, match=says) as refusal:
        check_declared(schema(declared))
    assert ";" in str(refusal.value), "what to do"


@pytest.mark.parametrize(
    "declared",
    [
        *map(field, TYPES),
        field("int", aliases=["x", "old"]),
        field(decimal(38, 38)),
        field(decimal(4, 0, FIXED)),
        field(decimal(3, 2), default="\u0003\u00e7"),
        field(decimal(4, 2, FIXED), default="\u00ff\u009c"),
        field({"type": "long", "logicalType": "of our own"}),
        field([{**FIXED, "name": "a.F"}, {**FIXED, "name": "b.F"}]),
        field({**FIXED, "namespace": "a.b", "aliases": ["F", "G", "c.H"]}),
        field({"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}),
        field(["null", {"type": "int", "logicalType": "date"}], default=None),
        field({"type": "record", "name": "n.Outer", "fields": [{"name": "one", "type": FIXED}, {"name": "two", "type": "F", "default": "ab"}]}),
    ],
    ids=str,
)
def test_what_is_avros_is_taken_as_fastavro_takes_it(declared: dict[str, Any]) -> None:
    text = schema(declared)
    parse_record(text)
    fastavro.parse_schema(json.loads(text))
    check_declared(text)
