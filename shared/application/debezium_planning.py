"""From a stream's declaration and schema file to its columns and its envelope."""

from tidemill.shared.application.debezium import EnvelopePlan, row_schema, source_columns, user_schema, wire_schema
from tidemill.shared.application.stream_definition import Stream


def debezium_stream(text: str, stream: Stream) -> tuple[str, EnvelopePlan]:
    """Return the stream's columns as an Avro schema, and how they lie in a message; UnreadableSchema names a field that cannot be read."""
    row = row_schema(text)
    deletes, updates = stream.deletes or "skip", stream.updates or "event"
    is_reference, with_id = stream.kind == "reference", bool(stream.primary_key)
    wire = wire_schema(row, with_before=is_reference or deletes == "event", with_id=with_id)
    names = tuple(field.name for field in row.record.fields)
    plan = EnvelopePlan(wire, names, row.instants, source_columns(row), row.event_time, stream.primary_key, deletes, updates, stream.decimals)
    return user_schema(row, with_id), plan
