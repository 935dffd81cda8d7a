"""Raw events in JSON as columns: the same schema, the same verdicts, no Avro library at the publisher."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from shared.avro.columns import DecodedColumns
from shared.streaming.errors import InvalidRecord

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class JsonDecoder:
    """Decodes JSON objects to a stream's columns.

    Times may be milliseconds since the epoch or ISO 8601 text (without an offset: UTC). Unknown fields are refused, so that a
    misspelt name is seen and not taken for a missing value.
    """

    def __init__(self, arrow: pa.Schema) -> None:
        self._arrow = arrow

    def decode(self, values: Sequence[bytes]) -> DecodedColumns:
        """Decode every value; a bad one becomes an error at its position."""
        rows, good, errors = [], [], []
        for i, value in enumerate(values):
            try:
                row = self._row(value)
                pa.RecordBatch.from_pylist([row], schema=self._arrow)
            except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
                errors.append(InvalidRecord(i, "invalid_json", str(error)))
                continue
            rows.append(row)
            good.append(i)
        return DecodedColumns(pa.RecordBatch.from_pylist(rows, schema=self._arrow), np.array(good, np.int64), errors)

    def _row(self, value: bytes) -> dict[str, Any]:
        parsed = json.loads(value)
        if not isinstance(parsed, dict):
            raise TypeError(f"expected a JSON object, found {type(parsed).__name__}")
        if unknown := sorted(set(parsed) - set(self._arrow.names)):
            raise ValueError(f"expected fields among {', '.join(self._arrow.names)}, found {unknown[0]}")
        row: dict[str, Any] = {}
        for field in self._arrow:
            item = parsed.get(field.name)
            if item is None and not field.nullable:
                raise ValueError(f"expected a value in {field.name}, found none")
            row[field.name] = _milliseconds(field.name, item) if pa.types.is_timestamp(field.type) and item is not None else item
        return row


def _milliseconds(name: str, item: Any) -> int:  # noqa: ANN401, RUF100 - whatever the JSON holds
    if isinstance(item, bool) or not isinstance(item, int | str):
        raise TypeError(f"expected milliseconds or ISO 8601 text in {name}, found {item!r}")
    if isinstance(item, int):
        return item
    moment = datetime.fromisoformat(item)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round((moment - _EPOCH).total_seconds() * 1000)
