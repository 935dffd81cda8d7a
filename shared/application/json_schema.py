"""The application file as JSON Schema, so that editors complete and check it while it is written."""

from typing import Any

from pydantic import TypeAdapter

from tidemill.shared.application.document import SECTIONS
from tidemill.shared.application.model import Application, Model
from tidemill.shared.application.stream_definition import Stream
from tidemill.shared.application.values import DURATION_PATTERN, UNITS_MS, Name, Owner
from tidemill.shared.application.view_definition import AnyView, Entity

_ENTRIES: dict[str, Any] = {"streams": dict[Name, Stream], "entities": dict[Name, Entity], "views": dict[Name, AnyView], "models": dict[Name, Model]}
_WITH_OWNER = ("streams", "views", "models")


def json_schema(section: str = "app") -> dict[str, Any]:
    """Return the schema of ``app.yaml`` (``app``), or of a file that holds one section's entries (``streams``, ``entities``, ``views``, ``models``).

    A section may stand in files of its own, so ``app.yaml`` need not have it.
    """
    if section == "app":
        schema = Application.model_json_schema(by_alias=True)
        schema["required"] = [name for name in schema["required"] if name not in SECTIONS]
    elif section in _ENTRIES:
        schema = TypeAdapter(_ENTRIES[section]).json_schema(by_alias=True)
        if section in _WITH_OWNER:
            schema["properties"] = {"owner": TypeAdapter(Owner).json_schema()}
            schema["patternProperties"] = {f"^(?!owner$){pattern[1:]}": entry for pattern, entry in schema["patternProperties"].items()}
        schema["additionalProperties"] = False
    else:
        raise ValueError(f"expected app or one of {', '.join(_ENTRIES)}, found {section!r}")
    _write_durations(schema)
    if "Window" in schema.get("$defs", {}):
        short = {"type": "string", "pattern": f"^all$|{DURATION_PATTERN}", "examples": ["3h", "7d", "all"]}
        schema["$defs"]["Window"] = {"anyOf": [short, schema["$defs"]["Window"]]}
    title = "A Tidemill application" if section == "app" else f"{section.capitalize()} of a Tidemill application"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}


def duration_text(milliseconds: int) -> str:
    """Return a duration as the file has it.

    >>> duration_text(259_200_000), duration_text(5_400_000), duration_text(0)
    ('3d', '90m', '0s')
    """
    for unit in ("d", "h", "m", "s"):
        if milliseconds and milliseconds % UNITS_MS[unit] == 0:
            return f"{milliseconds // UNITS_MS[unit]}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0s"


def _write_durations(node: Any) -> None:  # a JSON document
    """Defaults of durations are kept in milliseconds; the file has them as text."""
    if isinstance(node, list):
        for item in node:
            _write_durations(item)
    elif isinstance(node, dict):
        kinds = [node, *node.get("anyOf", ())]
        if isinstance(node.get("default"), int) and any(kind.get("pattern") == DURATION_PATTERN for kind in kinds if isinstance(kind, dict)):
            node["default"] = duration_text(node["default"])
        for item in node.values():
            _write_durations(item)
