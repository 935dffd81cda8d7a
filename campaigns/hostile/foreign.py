"""Records of writers whose schemas the application does not know: valid by themselves, hostile to a reader."""

import io
import json
from typing import Any

import fastavro

from campaigns.hostile.application import PAYMENT
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.avro.wire import header

_EXTRAS: tuple[tuple[Any, Any], ...] = (
    ({"type": "array", "items": ["null", "string"]}, ["a", None]),
    ({"type": "map", "values": "long"}, {"a": 1}),
    ({"type": "record", "name": "Inner", "fields": [{"name": "a", "type": "int"}]}, {"a": 1}),
    ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, b"\x01\x02"),
    ({"type": "fixed", "name": "Four", "size": 4}, b"abcd"),
    ({"type": "enum", "name": "Colour", "symbols": ["RED", "BLUE"]}, "BLUE"),
    (["null", "int", "string", {"type": "array", "items": "double"}], [1.5]),
    ({"type": "int", "logicalType": "time-millis"}, 5),
)
_NODE = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}


def foreign_records(registry: SchemaRegistry, subject: str) -> tuple[bytes, ...]:
    """Register the schemas and return framed records of hostile accounts."""
    values: dict[str, Any] = {
        "payment_id": "foreign",
        "account": "x0",
        "paid_at": 1_700_000_000_000,
        "amount": 1.0,
        "items": 1,
        "online": True,
        "memo": None,
    }
    made = []

    def write(number: int, name: str, fields: list[dict[str, Any]], record: dict[str, Any]) -> bytes:
        schema = {"type": "record", "name": name, "namespace": "foreign", "fields": fields}
        frame = header(registry.register(f"{subject}-foreign-{number}", json.dumps(schema)))
        body = io.BytesIO()
        fastavro.schemaless_writer(body, fastavro.parse_schema(json.loads(json.dumps(schema))), record)
        return frame + body.getvalue()

    own = [{"name": name, "type": kind} for name, kind in PAYMENT]
    plain = [{"name": name, "type": "long" if name == "paid_at" else kind} for name, kind in PAYMENT]
    for number, (kind, value) in enumerate(_EXTRAS):
        made.append(
            write(number, "Payment", [*own[:3], {"name": "extra", "type": kind}, *own[3:]], {**values, "payment_id": f"f{number}", "extra": value})
        )
    wide = [{**field, "type": "long"} if field["name"] == "items" else field for field in plain]
    made.append(write(90, "Payment", wide, {**values, "payment_id": "wide", "items": 4_294_967_295}))
    made.append(write(91, "Payment", [field for field in own if field["name"] != "amount"], {k: v for k, v in values.items() if k != "amount"}))
    texts = [{"name": name, "type": "string"} for name, _ in PAYMENT]
    made.append(write(92, "Payment", texts, {name: "x0" for name, _ in PAYMENT}))
    deep: dict[str, Any] = {"next": None}
    for _ in range(200):
        deep = {"next": deep}
    made.append(write(93, "Payment", [*own, {"name": "chain", "type": _NODE}], {**values, "payment_id": "chain", "chain": deep}))
    # A block of 2^62 items, and one of a negative count with a negative size, where the list should be.
    listed = write(94, "Payment", [{"name": "list", "type": {"type": "array", "items": "null"}}, *own], {**values, "payment_id": "list", "list": []})
    made += [listed, listed[:5] + b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f" + listed[6:], listed[:5] + b"\x03\x03" + listed[6:]]
    return tuple(made)
