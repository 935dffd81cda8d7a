"""Avro schemas that follow from an application: journal entries and vectors."""

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tidemill.shared.application.plan import FeaturePlan

_TIME = {"type": "long", "logicalType": "timestamp-millis"}
_DATE = {"type": "int", "logicalType": "date"}
_AVRO = {pa.float64(): "double", pa.date32(): _DATE, pa.int64(): "long", pa.bool_(): "boolean", pa.string(): "string", pa.timestamp("ms"): _TIME}


def _namespace(app: str) -> str:
    return f"tidemill.{app.replace('-', '_')}"


def entry_name(stream: str) -> str:
    """Record name of a stream's journal entries: ``departures`` gives ``DeparturesEntry``."""
    return "".join(part.capitalize() for part in stream.split("_")) + "Entry"


DELETED = "_deleted"
"""Column of a reference stream's entries: true for one that deletes the row of its key, and has no other column of the user's."""


def entry_schema(app: str, stream: str, user_schema: str, derived: Sequence[tuple[str, pa.DataType]], reference: bool = False) -> str:
    """Return the journal entry of a stream: envelope, the user's fields as declared, derived columns (nullable).

    A reference stream's entry may delete a row: it says so, and its user's fields are nullable.
    """
    fields: list[object] = [
        {"name": "_journal_time", "type": _TIME},
        {"name": "_event_id", "type": "string"},
        {"name": "_event_time", "type": _TIME},
        {"name": "_late", "type": "boolean"},
        {"name": "_source_partition", "type": "int"},
        {"name": "_source_offset", "type": "long"},
    ]
    declared = [{key: value for key, value in one.items() if key != "aliases"} for one in json.loads(user_schema)["fields"]]
    if reference:
        fields.append({"name": DELETED, "type": "boolean", "default": False})
        declared = [_nullable(one) for one in declared]
    fields += declared
    fields += [{"name": name, "type": ["null", _AVRO[kind]], "default": None} for name, kind in derived]
    return json.dumps({"type": "record", "name": entry_name(stream), "namespace": _namespace(app), "fields": fields})


def _nullable(declared: dict[str, Any]) -> dict[str, Any]:
    """Return a field that may be null; one that may already is left as it is."""
    kind = declared["type"]
    branches = kind if isinstance(kind, list) else [kind]
    if "null" in branches:
        return declared
    return {**declared, "type": ["null", *branches], "default": None}


def vector_schema(app: str, features: Sequence[FeaturePlan]) -> str:
    """Return the schema of the vector topic: envelope, then one nullable column per feature."""
    fields: list[object] = [
        {"name": "_request_id", "type": "string"},
        {"name": "_ask", "type": "string"},
        {"name": "_event_time", "type": _TIME},
        {"name": "_journal_partition", "type": "int"},
        {"name": "_journal_offset", "type": "long"},
        {"name": "_journal_time", "type": _TIME},
        {"name": "_late", "type": "boolean"},
    ]
    fields += [{"name": feature.name, "type": ["null", feature.type], "default": None} for feature in features]
    return json.dumps({"type": "record", "name": "Vector", "namespace": _namespace(app), "fields": fields})
