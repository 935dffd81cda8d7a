"""One record at a time, for topics of low rate and for types that the columnar codec cannot do."""

import io
import json
from functools import lru_cache
from typing import Any

import fastavro

from tidemill.shared.avro.registry import SchemaNotFound, SchemaRegistry
from tidemill.shared.avro.schema_tree import UnreadableSchema, parse_type
from tidemill.shared.avro.value_check import ValueCheck
from tidemill.shared.avro.wire import HEADER_BYTES, header, schema_id_of
from tidemill.shared.log.errors import InvalidRecord
from tidemill.shared.short_text import with_short_texts


def plain(schema: Any) -> Any:  # Avro JSON is free-form
    """Return the schema without timestamp logical types, so that fastavro gives integers instead of datetimes."""
    if isinstance(schema, dict):
        kept = {
            key: plain(value)
            for key, value in schema.items()
            if not (key == "logicalType" and str(value).startswith(("timestamp", "local-timestamp")))
        }
        return kept["type"] if set(kept) == {"type"} and isinstance(kept["type"], str) else kept
    return [plain(item) for item in schema] if isinstance(schema, list) else schema


@lru_cache(maxsize=256)
def parse(schema: str) -> Any:
    """Parse an Avro schema (JSON) for fastavro, times as integers; the same text is parsed once in a process, and fastavro changes nothing in it."""
    return fastavro.parse_schema(plain(json.loads(schema)))


class RecordCodec:
    """Encodes and decodes framed Avro records as dicts; times are int milliseconds.

    Parameters
    ----------
    registry, subject
        Where the schema is registered (at construction).
    schema
        The project's schema, JSON: encoded with, and decoded to (whatever the writer's was).
    longest_text
        For events, whose texts (reasons, categories, errors) come from users: longer ones are cut (`short_text`), so that the record fits its topic.
    """

    def __init__(self, registry: SchemaRegistry, subject: str, schema: str, longest_text: int | None = None) -> None:
        self._longest_text = longest_text
        self._registry = registry
        self._schema = parse(schema)
        self._header = header(registry.register(subject, schema))
        self._writers: dict[int, tuple[Any, ValueCheck]] = {}

    def encode(self, record: dict[str, Any]) -> bytes:
        """Encode one record; ValueError names a field that does not fit."""
        body = io.BytesIO()
        body.write(self._header)
        fastavro.schemaless_writer(body, self._schema, record if self._longest_text is None else with_short_texts(record, self._longest_text))
        return body.getvalue()

    def decode(self, value: bytes) -> dict[str, Any]:
        """Decode one record; InvalidRecord (row 0) when it cannot be."""
        schema_id = schema_id_of(value)
        if schema_id < 0:
            raise InvalidRecord(0, "not_framed", f"expected a zero byte and a schema id, found {value[:HEADER_BYTES]!r}")
        if schema_id not in self._writers:
            try:
                text = self._registry.schema(schema_id)
                # fastavro recurses as deep as schema and value go, and believes every count: both are checked before it sees them.
                check = ValueCheck(parse_type(text))
                self._writers[schema_id] = parse(text), check
            except SchemaNotFound as error:
                raise InvalidRecord(0, "unknown_schema_id", f"schema id {schema_id} is not in the registry") from error
            except (
                UnreadableSchema,
                ValueError,
                KeyError,
                TypeError,
                AttributeError,
                fastavro.schema.SchemaParseException,
                fastavro.schema.UnknownType,
            ) as error:
                raise InvalidRecord(0, "incompatible_schema", f"schema id {schema_id} is no Avro schema: {error}") from error
        writer, check = self._writers[schema_id]
        check.require(value, HEADER_BYTES)
        body = io.BytesIO(value)
        body.seek(HEADER_BYTES)
        try:
            decoded = fastavro.schemaless_reader(body, writer, self._schema)
        except (EOFError, ValueError, LookupError, TypeError, OverflowError, AttributeError, fastavro.read.SchemaResolutionError) as error:
            raise InvalidRecord(0, "undecodable", f"{type(error).__name__}: {error}") from error
        if body.tell() != len(value):
            raise InvalidRecord(0, "trailing_bytes", f"expected {body.tell()} bytes, found {len(value)}")
        if not isinstance(decoded, dict):
            raise InvalidRecord(0, "undecodable", f"expected a record, found {type(decoded).__name__}")
        return decoded
