"""JSON as Kafka Connect's converter writes it: bytes in base64, decimals as the bytes of their digits, `schema` and `payload` around it or not."""

import base64
import binascii
import re
from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from typing import Any, Literal

from tidemill.shared.application.debezium import EnvelopePlan, unwrapped
from tidemill.shared.avro.arrow_types import leaves
from tidemill.shared.avro.connect_types import INSTANTS_AS_TEXT, LOGICAL, NOT_CARRIED
from tidemill.shared.avro.json_events import JsonDecoder
from tidemill.shared.avro.json_text import shown
from tidemill.shared.avro.json_values import JsonForm, decimal_value
from tidemill.shared.avro.schema_tree import parse_record

_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_DIGITS = re.compile(r"[0-9]+")
Texts = Literal["base64", "number"]


class DebeziumJsonDecoder(JsonDecoder):
    """Decodes Debezium's messages in JSON to the columns of a wire schema (`EnvelopePlan`).

    Unknown fields are skipped, and a missing one needs a default, as in Avro: it is a machine that wrote them. Where `schema` stands beside
    `payload`, what it says of times is held against the stream's columns.

    Parameters
    ----------
    times, event_time
        Of the stream, by the row's names.
    """

    def __init__(self, envelope: EnvelopePlan, times: Mapping[str, str], event_time: str) -> None:
        own = {f"{side}.{name}": text for name, text in times.items() for side in ("after", "before")}
        form = JsonForm(_bytes, partial(_decimal, envelope.decimals), skips_unknown=True)
        super().__init__(envelope.wire_schema, own, f"after.{event_time}", form)
        columns = leaves(parse_record(envelope.wire_schema))
        self._units = {column.name: column.type.logical for column in columns}
        self._texts = [
            column.name.removeprefix("source.") for column in columns if column.name.startswith("source.") and column.type.kind == "string"
        ]
        self._schema: Any = None
        self._problem = ""

    def row(self, parsed: Any) -> dict[str, Any]:  # whatever the JSON holds
        """Return the values of a message by column of the wire schema."""
        payload = unwrapped(parsed)
        if payload is not parsed and parsed["schema"] is not None:
            if parsed["schema"] != self._schema:
                self._schema, self._problem = parsed["schema"], _problem(parsed["schema"], self._units)
            if self._problem:
                raise ValueError(self._problem)
        if isinstance(payload, dict) and isinstance(payload.get("source"), dict):
            # Some versions write `snapshot` as a truth value, others as text.
            said = {name: str(value).lower() for name in self._texts if isinstance(value := payload["source"].get(name), bool)}
            payload = {**payload, "source": {**payload["source"], **said}} if said else payload
        return super().row(payload)


def _problem(schema: Any, units: Mapping[str, str]) -> str:
    """Say which field is another quantity in a message's own schema than in the stream's; empty when none is."""
    for side in _fields(schema):
        for field in _fields(side):
            name, said = f"{side.get('field')}.{field.get('field')}", field.get("name")
            if name not in units or not isinstance(said, str):
                continue
            if said in NOT_CARRIED:
                return f"{name.partition('.')[2]}: {said} is not carried: {NOT_CARRIED[said]}"
            meant = LOGICAL.get(said) or ("timestamp-micros" if said in INSTANTS_AS_TEXT else "")
            wanted = units[name]
            text_as_time = said in INSTANTS_AS_TEXT and wanted.startswith("timestamp-")
            if meant and wanted and wanted.removeprefix("local-") != meant and not text_as_time:
                return f"{name.partition('.')[2]}: expected {wanted}, as the stream's schema has it, the message says {said} ({meant})"
    return ""


def _fields(schema: Any) -> list[dict[str, Any]]:
    fields = schema.get("fields") if isinstance(schema, dict) else None
    return [field for field in fields if isinstance(field, dict)] if isinstance(fields, list) else []


def _bytes(item: Any, size: int | None, name: str) -> bytes:
    content = _of_base64(item)
    if content is None:
        raise ValueError(f"expected bytes in base64 in {name}, found {shown(item)}")
    if size is not None and len(content) != size:
        raise ValueError(f"expected {size} bytes in {name}, found {len(content)}")
    return content


def _decimal(texts: Texts | None, item: Any, precision: int, scale: int, name: str) -> Decimal:
    """Read a number, or a text that is one (`decimal.handling.mode: string`) or the bytes of its digits in base64 (`precise`, the default)."""
    if not isinstance(item, str) or texts == "number":
        return decimal_value(item, precision, scale, name)
    content = _of_base64(item)
    if texts is None and _DIGITS.fullmatch(item) and content is not None:
        out = "declare decimals: base64 (decimal.handling.mode: precise) or decimals: number"
        raise ValueError(f"{name}: {shown(item)} may be a number, and may be base64; {out}")
    if content is None and texts is None:
        return decimal_value(item, precision, scale, name)
    if not content:
        raise ValueError(f"expected the digits of decimal({precision}, {scale}) in base64 in {name}, found {shown(item)}")
    if len(content) > 64:
        raise ValueError(f"expected decimal({precision}, {scale}) in {name}, found {len(content)} bytes")
    # Not by scaleb, which rounds to the 28 digits of the context.
    return decimal_value(Decimal(f"{int.from_bytes(content, 'big', signed=True)}E-{scale}"), precision, scale, name)


def _of_base64(item: Any) -> bytes | None:
    if not isinstance(item, str) or _BASE64.fullmatch(item) is None:
        return None
    try:
        return base64.b64decode(item, validate=True)
    except binascii.Error:
        return None
