"""What Kafka Connect and Debezium mean by a type, where Avro itself has only a number or a text: `connect.name`."""

import json
from collections.abc import Iterator
from typing import Any

LOGICAL = {
    "io.debezium.time.Date": "date",
    "io.debezium.time.Time": "time-millis",
    "io.debezium.time.MicroTime": "time-micros",
    "io.debezium.time.Timestamp": "timestamp-millis",
    "io.debezium.time.MicroTimestamp": "timestamp-micros",
    "org.apache.kafka.connect.data.Date": "date",
    "org.apache.kafka.connect.data.Time": "time-millis",
    "org.apache.kafka.connect.data.Timestamp": "timestamp-millis",
}
"""Logical type of Avro by the name of Connect; the primitive under it is the same."""
INSTANTS_AS_TEXT = frozenset({"io.debezium.time.ZonedTimestamp", "io.debezium.time.IsoTimestamp"})
"""Texts in ISO 8601 that are points in time."""
_NANOS = "set time.precision.mode to adaptive_time_microseconds or connect in the connector, or declare a plain long"
NOT_CARRIED = {
    "io.debezium.time.NanoTimestamp": _NANOS,
    "io.debezium.time.NanoTime": _NANOS,
    "io.debezium.data.VariableScaleDecimal": (
        "each record has a scale of its own: set decimal.handling.mode to double or string in the connector, or give the column a precision and"
        " a scale in the database"
    ),
}
"""What has no column here, and the way out."""


def with_logical_types(schema: str) -> str:
    """Return an Avro schema (JSON) in which Connect's names of times are Avro's logical types; whatever else it is, stays.

    >>> with_logical_types('{"type": "long", "connect.name": "io.debezium.time.MicroTimestamp"}')
    '{"type": "long", "connect.name": "io.debezium.time.MicroTimestamp", "logicalType": "timestamp-micros"}'
    """
    if "connect.name" not in schema:
        return schema
    try:
        parsed = json.loads(schema)
    except (ValueError, RecursionError):
        return schema  # The parser of schemas says what is wrong with it.
    for declared in _named(parsed):
        logical = LOGICAL.get(declared["connect.name"])
        if logical is not None and "logicalType" not in declared:
            declared["logicalType"] = logical
    return json.dumps(parsed)


def connect_name(declared: Any) -> str:  # Avro JSON is free-form
    """Return Connect's name of a field's type, of the other type where it may be null; empty without one."""
    branches = [branch for branch in declared if branch != "null"] if isinstance(declared, list) else [declared]
    name = branches[0].get("connect.name", "") if len(branches) == 1 and isinstance(branches[0], dict) else ""
    return name if isinstance(name, str) else ""


def _named(node: Any) -> Iterator[dict[str, Any]]:
    """Every object with Connect's name below a node; a stack, since anybody may register a schema of any depth."""
    stack = [node]
    while stack:
        one = stack.pop()
        if isinstance(one, dict):
            if isinstance(one.get("connect.name"), str):
                yield one
            stack.extend(one.values())
        elif isinstance(one, list):
            stack.extend(one)
