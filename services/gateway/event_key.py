"""The partition key of an event in JSON, as every stage writes it."""

from typing import Any

import pyarrow as pa

from tidemill.services.gateway.derived_key import DerivedKey
from tidemill.shared.application.debezium import changed_row
from tidemill.shared.application.plan import StreamPlan
from tidemill.shared.avro.arrow_types import leaf_type
from tidemill.shared.avro.json_text import json_parser
from tidemill.shared.avro.key_text import KeyTextError, key_text

_PARSE = json_parser()


class EventKey:
    """Finds the key of a stream's events and writes it as ingestion does: `tidemill.shared.avro.key_text`.

    Attributes
    ----------
    is_derived
        Whether an expression makes it of the event's fields.
    """

    def __init__(self, stream: StreamPlan) -> None:
        self._name, self._is_change = stream.key, stream.envelope is not None
        self.is_derived = stream.key not in stream.user_arrow.names
        self._derived = DerivedKey(stream) if self.is_derived else None
        self._kind = stream.entry_arrow.field(stream.key).type
        self._is_uuid = leaf_type(stream.entry_schema, stream.key).logical == "uuid"

    def of(self, value: bytes) -> bytes:
        """Return an event's partition key; ValueError for what ingestion could not place."""
        if self._derived is not None:
            return self._derived.of(value).encode()
        try:
            event = _PARSE(value.decode())
        except (UnicodeDecodeError, ValueError, RecursionError) as error:
            raise ValueError(f"expected one JSON object: {error}") from error
        if not isinstance(event, dict):
            raise ValueError(f"expected one JSON object, got {type(event).__name__}")
        given = self._given(changed_row(event) if self._is_change else event)
        if given is None:
            raise ValueError(f"expected the partition key {self._name}, which is missing or null")
        if self._is_change and isinstance(given, str) and pa.types.is_decimal(self._kind):
            raise ValueError(f"partition key {self._name}: expected a number, got a text, which may be base64; publish the change to Kafka")
        try:
            return key_text(given, self._kind, uuid=self._is_uuid).encode()
        except KeyTextError as error:
            raise ValueError(f"partition key {self._name}: {error}") from error

    def _given(self, row: Any) -> Any:  # whatever the JSON holds
        """Return the value of the key's column, which may lie in a record within the event."""
        for name in self._name.split("."):
            row = row.get(name) if isinstance(row, dict) else None
        return row
