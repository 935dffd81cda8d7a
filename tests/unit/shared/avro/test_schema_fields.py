"""What two schemas of a writer differ in, and what it means to the columns that are read."""

import json
from typing import Any

from tidemill.shared.avro.schema_fields import FieldChange, columns_by_name, differences, schema_fields
from tidemill.shared.avro.schema_tree import parse_record

READER: list[dict[str, Any]] = [
    {"name": "id", "type": "string"},
    {"name": "weight", "type": ["null", "double"], "aliases": ["kg"], "default": None},
    {"name": "shop", "type": {"type": "record", "name": "Shop", "fields": [{"name": "town", "type": "string"}]}},
]


def record(fields: list[dict[str, Any]]) -> str:
    return json.dumps({"type": "record", "name": "Order", "fields": fields})


def changes(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> list[FieldChange]:
    columns = columns_by_name(schema_fields(parse_record(record(list(READER)))))
    old, new = (schema_fields(parse_record(record(fields))) for fields in (before, now))
    return differences(old, new, columns)


def test_nothing_differs_where_only_documentation_and_order_do() -> None:
    assert changes(list(READER), [{**READER[1], "doc": "kilograms"}, READER[0], READER[2]]) == []


def test_fields_come_and_go() -> None:
    gift = {"name": "gift", "type": {"type": "enum", "name": "Gift", "symbols": ["yes", "no"]}}
    assert changes(list(READER), [READER[0], READER[2], gift]) == [
        FieldChange("gift", "added", "", "enum of yes, no"), FieldChange("weight", "dropped", "null or double", "", "weight", "lost"),
    ]  # fmt: skip
    # A column that had no field has one from now on.
    assert changes([READER[0], READER[2]], list(READER)) == [FieldChange("weight", "added", "", "null or double", "weight", "read")]


def test_another_type_is_told_also_within_a_record() -> None:
    deep = {"name": "shop", "type": {"type": "record", "name": "Shop", "fields": [{"name": "town", "type": ["null", "string"]}]}}
    assert changes(list(READER), [READER[0], READER[1], deep]) == [
        FieldChange("shop.town", "retyped", "string", "null or string", "shop.town", "read")
    ]
    stamp, day = ({"name": "at", "type": {"type": kind, "logicalType": name}} for kind, name in (("long", "timestamp-millis"), ("int", "date")))
    assert changes([*READER, stamp], [*READER, day]) == [FieldChange("at", "retyped", "timestamp-millis", "date")]
    money = [{"name": "paid", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": scale}} for scale in (2, 4)]
    assert changes([*READER, money[0]], [*READER, money[1]]) == [FieldChange("paid", "retyped", "decimal(9, 2)", "decimal(9, 4)")]


def test_a_field_is_renamed_by_the_alias_of_either_side() -> None:
    # The application reads kg as weight: values still come.
    assert changes(list(READER), [READER[0], {"name": "kg", "type": "double"}, READER[2]]) == [
        FieldChange("kg", "renamed", "weight", "kg", "weight", "read")
    ]
    # The producer's alias does not help the application, which has never heard of the new name.
    mass = {"name": "mass", "type": "double", "aliases": ["weight"]}
    assert changes(list(READER), [READER[0], mass, READER[2]]) == [FieldChange("mass", "renamed", "weight", "mass", "weight", "lost")]


def test_a_recursive_schema_and_a_wide_one_end() -> None:
    node = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
    assert list(schema_fields(parse_record(json.dumps(node)))) == [".".join(["next"] * 9)]
    wide = record([{"name": f"f{i}", "type": "int"} for i in range(2_000)])
    assert len(schema_fields(parse_record(wide))) == 500
