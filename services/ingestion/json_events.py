"""Raw events in JSON as columns: the same schema, the same verdicts, no Avro library at the publisher."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from shared.avro.arrow_types import arrow_schema
from shared.avro.columns import DecodedColumns
from shared.streaming.errors import InvalidRecord

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class JsonDecoder:
    """Decodes JSON objects to a stream's columns.

    Times may be milliseconds since the epoch or ISO 8601 text (without an offset: UTC). A missing field takes the schema's default. Unknown
    fields are refused, so that a misspelt name is seen and not taken for a missing value.

    Parameters
    ----------
    schema
        The stream's Avro schema, JSON.
    """

    def __init__(self, schema: str) -> None:
        self.arrow = arrow_schema(schema)
        self._defaults = {field["name"]: field["default"] for field in json.loads(schema)["fields"] if "default" in field}

    def decode(self, values: Sequence[bytes | None]) -> DecodedColumns:
        """Decode every value; a bad one becomes an error at its position."""
        rows: list[dict[str, Any]] = []
        good: list[int] = []
        errors: list[InvalidRecord] = []
        for i, value in enumerate(values):
            try:
                row = self._row(value or b"")
                pa.RecordBatch.from_pylist([row], schema=self.arrow)
            except (ValueError, TypeError, OverflowError, RecursionError, pa.ArrowException) as error:
                errors.append(InvalidRecord(i, "invalid_json", str(error)))
                continue
            rows.append(row)
            good.append(i)
        return DecodedColumns(pa.RecordBatch.from_pylist(rows, schema=self.arrow), np.array(good, np.int64), errors)

    def _row(self, value: bytes) -> dict[str, Any]:
        parsed = json.loads(value, parse_constant=_no_constant)
        if not isinstance(parsed, dict):
            raise TypeError(f"expected a JSON object, found {type(parsed).__name__}")
        if unknown := sorted(set(parsed) - set(self.arrow.names)):
            raise ValueError(f"expected fields among {', '.join(self.arrow.names)}, found {unknown[0]}")
        row: dict[str, Any] = {}
        for field in self.arrow:
            item = parsed[field.name] if field.name in parsed else self._defaults.get(field.name)
            if item is None and not field.nullable:
                raise ValueError(f"expected a value in {field.name}, found none")
            row[field.name] = None if item is None else _value(field, item)
        return row


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"expected a number, found {text}, which JSON does not have")


def _value(field: pa.Field, item: Any) -> Any:  # noqa: ANN401, RUF100 - whatever the JSON holds
    """Check the JSON type: Arrow would make 1 of 1.5, and of true."""
    if field.type == pa.timestamp("ms"):
        return _milliseconds(field.name, item)
    for holds, types in ((pa.types.is_string, str), (pa.types.is_boolean, bool), (pa.types.is_integer, int), (pa.types.is_floating, int | float)):
        if holds(field.type) and (not isinstance(item, types) or (isinstance(item, bool) and types is not bool)):
            raise TypeError(f"expected {field.type} in {field.name}, found {item!r}")
    return _in_range(field.name, item) if pa.types.is_integer(field.type) else item


def _in_range(name: str, item: int) -> int:
    """Refuse what no 64-bit integer holds, by name: Arrow only says that it is too large."""
    if not -(2**63) <= item < 2**63:
        raise ValueError(f"expected a 64-bit integer in {name}, found {item}")
    return item


def _milliseconds(name: str, item: Any) -> int:  # noqa: ANN401, RUF100 - whatever the JSON holds
    if isinstance(item, bool) or not isinstance(item, int | str):
        raise TypeError(f"expected milliseconds or ISO 8601 text in {name}, found {item!r}")
    if isinstance(item, int):
        return _in_range(name, item)
    moment = datetime.fromisoformat(item)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round((moment - _EPOCH).total_seconds() * 1000)
