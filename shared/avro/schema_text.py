"""An Avro type tree as schema text again, for schemas that are composed of parts of others."""

import json
from typing import Any

from tidemill.shared.avro.schema_tree import AvroField, AvroType


def schema_text(kind: AvroType) -> str:
    """Return the JSON of a type; a named type is defined where it comes first and named after that.

    >>> from tidemill.shared.avro.schema_tree import parse_type
    >>> schema_text(parse_type('{"type": "record", "name": "a.R", "fields": [{"name": "x", "type": ["null", "long"], "default": null}]}'))
    '{"type": "record", "name": "a.R", "fields": [{"name": "x", "type": ["null", "long"], "default": null}]}'
    """
    return json.dumps(_declared(kind, set()))


def _declared(kind: AvroType, named: set[str]) -> Any:  # Avro JSON is free-form
    if kind.kind == "union":
        return [_declared(branch, named) for branch in kind.branches]
    if kind.kind in ("array", "map"):
        return {"type": kind.kind, "items" if kind.kind == "array" else "values": _declared(kind.item, named)}
    if kind.name in named:
        return kind.name
    made: dict[str, Any] = {"type": kind.kind}
    if kind.name:
        named.add(kind.name)
        made["name"] = kind.name
        if "." not in kind.name:
            # Without it the name would be one of the namespace around it.
            made["namespace"] = ""
        if kind.aliases:
            made["aliases"] = list(kind.aliases)
    if kind.logical:
        made["logicalType"] = kind.logical
        if kind.logical == "decimal":
            made.update(precision=kind.precision, scale=kind.scale)
    if kind.kind == "enum":
        made["symbols"] = list(kind.symbols)
        if kind.default is not None:
            made["default"] = kind.default
    elif kind.kind == "fixed":
        made["size"] = kind.size
    elif kind.kind == "record":
        made["fields"] = [_field(field, named) for field in kind.fields]
    return made if len(made) > 1 else kind.kind


def _field(field: AvroField, named: set[str]) -> dict[str, Any]:
    made: dict[str, Any] = {"name": field.name, "type": _declared(field.type, named)}
    if field.aliases:
        made["aliases"] = list(field.aliases)
    if field.has_default:
        made["default"] = field.default
    return made
