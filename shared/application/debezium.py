"""Debezium's envelope by declaration: which columns a stream has, and how they lie in the message.

The columns are those of the row (`after`, of a deletion `before`), beside them what the envelope says of the change: `debezium.op`, `debezium.ts_ms`,
`debezium.source.ts_ms` and the fields of `source` that the schema file names, and `debezium.id` where the primary key is declared.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tidemill.shared.avro.connect_types import INSTANTS_AS_TEXT, NOT_CARRIED, connect_name, with_logical_types
from tidemill.shared.avro.schema_text import schema_text
from tidemill.shared.avro.schema_tree import AvroField, AvroType, UnreadableSchema, parse_record

PREFIX = "debezium"
ID, OP, TS, SOURCE_TS = f"{PREFIX}.id", f"{PREFIX}.op", f"{PREFIX}.ts_ms", f"{PREFIX}.source.ts_ms"
POSITIONS = {
    "lsn": "long", "server_id": "long", "file": "string", "pos": "long", "row": "int", "change_lsn": "string", "commit_lsn": "string",
    "event_serial_no": "long", "scn": "string", "rs_id": "string", "ssn": "long",
}  # fmt: skip
"""Fields of `source` that say where in the database's log a change stands: PostgreSQL, MySQL, SQL Server and Db2, Oracle."""
Fate = Literal["skip", "reject", "event"]


@dataclass(frozen=True, slots=True)
class EnvelopePlan:
    """How a stream's rows lie in Debezium's messages.

    Attributes
    ----------
    wire_schema
        What is read of a message, Avro JSON: `after`, `before` where it is needed (every field of it may be missing), `op`, `ts_ms`, `source`.
    row
        Columns of the row, in order.
    instants
        Columns whose texts are points in time.
    source
        Fields of `source` that are columns.
    event_time
        The column that says when a row changed, by default.
    primary_key
        Columns that identify a row; with them `debezium.id` identifies a change.
    deletes, updates
        What becomes of them in an event stream.
    decimals
        How JSON has decimals; None: base64 or a number, whatever a text can only be.
    """

    wire_schema: str
    row: tuple[str, ...]
    instants: frozenset[str]
    source: tuple[str, ...]
    event_time: str = SOURCE_TS
    primary_key: tuple[str, ...] = ()
    deletes: Fate = "skip"
    updates: Fate = "event"
    decimals: Literal["base64", "number"] | None = None

    @property
    def reads_before(self) -> bool:
        """Say whether rows before a change are read."""
        return '"before"' in self.wire_schema


@dataclass(frozen=True, slots=True)
class RowSchema:
    """What a schema file says of a table: its row, and what of `source` is wanted.

    Attributes
    ----------
    record
        The row, times as the columns have them.
    wire
        The row as it lies in a message.
    event_time
        The column that says when a row changed: when the database did it, or, where messages do not say that, when the connector read it.
    """

    record: AvroType
    wire: AvroType
    instants: frozenset[str]
    source: tuple[AvroField, ...]
    event_time: str


def row_schema(text: str) -> RowSchema:
    """Read a schema file: Debezium's envelope as the registry has it, or the row alone; UnreadableSchema names the field and the way out."""
    record = parse_record(with_logical_types(text))
    fields = {field.name: field for field in record.fields}
    source: tuple[AvroField, ...] = ()
    event_time = SOURCE_TS
    if "op" in fields and "after" in fields:
        row, _ = fields["after"].type.without_null()
        if row.kind != "record":
            out = "unwrap it in the connector (MongoDB: ExtractNewDocumentState), and declare no envelope"
            raise UnreadableSchema(f"field after: expected the row as a record, found {row}; {out}")
        about, _ = fields["source"].type.without_null() if "source" in fields else (AvroType("record"), -1)
        source = tuple(about.fields)
        event_time = SOURCE_TS if "source" in fields else TS
    else:
        row = record
    if any(field.name == PREFIX for field in row.fields):
        raise UnreadableSchema(f"field {PREFIX}: the columns of the envelope have this name ({OP}, ...); leave it out, or rename it in the connector")
    names = _connect_names(text)
    for place, name in names:
        if name in NOT_CARRIED and not place.startswith(("source.", "transaction.")):
            # The row is defined in whichever of the two comes first.
            shown = place.removeprefix("after.").removeprefix("before.")
            raise UnreadableSchema(f"field {shown}: {name} is not carried: {NOT_CARRIED[name]}; or leave the field out (it is skipped)")
    zoned = {place.removeprefix("after.").removeprefix("before.") for place, name in names if name in INSTANTS_AS_TEXT}
    instants = frozenset(field.name for field in row.fields if field.name in zoned)
    moment = AvroType("long", "timestamp-micros")
    made = AvroType("record", name=row.name, fields=[_as(field, moment) if field.name in instants else field for field in row.fields])
    return RowSchema(made, row, instants, source, event_time)


def user_schema(row: RowSchema, with_id: bool) -> str:
    """Return the stream's columns as an Avro schema: the row, and `debezium` beside it."""
    source = AvroType("record", name=f"tidemill.{PREFIX}.Source", fields=[_optional(field) for field in _source_fields(row, ())])
    fields = [AvroField("op", AvroType("string"), (), False, None), _instant("ts_ms")]
    if with_id:
        fields.append(_optional(AvroField("id", AvroType("string"), (), False, None)))
    fields.append(AvroField("source", source, (), False, None))
    change = AvroType("record", name=f"tidemill.{PREFIX}.Change", fields=fields)
    own = [*row.record.fields, AvroField(PREFIX, change, (), False, None)]
    return schema_text(AvroType("record", name=row.record.name, fields=own))


def wire_schema(row: RowSchema, with_before: bool, with_id: bool) -> str:
    """Return what is read of a message as an Avro schema."""
    after = AvroType("union", branches=[AvroType("null"), row.wire])
    fields = [AvroField("after", after, (), True, None)]
    if with_before:
        name = f"{row.wire.name}Before"
        before = AvroType("record", name=name, fields=[_optional(field) for field in row.wire.fields])
        fields.append(AvroField("before", AvroType("union", branches=[AvroType("null"), before]), (), True, None))
    about = [_optional(field) for field in _source_fields(row, POSITIONS if with_id else ())]
    source = AvroType("record", name=f"tidemill.{PREFIX}.Source", fields=about)
    fields += [
        AvroField("op", AvroType("string"), (), False, None),
        _instant("ts_ms"),
        AvroField("source", AvroType("union", branches=[AvroType("null"), source]), (), True, None),
    ]
    return schema_text(AvroType("record", name=f"tidemill.{PREFIX}.Envelope", fields=fields))


def source_columns(row: RowSchema) -> tuple[str, ...]:
    """Return the fields of `source` that are columns."""
    return tuple(field.name for field in _source_fields(row, ()))


def changed_row(message: Mapping[str, Any]) -> Any:  # whatever the JSON holds
    """Return the row that a message in JSON is about, with or without Kafka Connect's `schema` and `payload`; None without one."""
    payload = unwrapped(message)
    if not isinstance(payload, Mapping):
        return None
    return payload.get("before") if payload.get("op") == "d" else payload.get("after")


def unwrapped(message: Any) -> Any:  # whatever the JSON holds
    """Return what Kafka Connect's JSON converter has put into `payload`, or the message itself."""
    return message["payload"] if isinstance(message, dict) and message.keys() >= {"schema", "payload"} else message


def looks_wrapped(columns: Sequence[str]) -> bool:
    """Say whether a stream's columns are those of an envelope that nobody has declared."""
    return "op" in columns and any(name.startswith("after.") for name in columns)


def _source_fields(row: RowSchema, more: Iterable[str]) -> list[AvroField]:
    fields = {field.name: field for field in row.source}
    fields["ts_ms"] = _instant("ts_ms")
    for name in more:
        fields.setdefault(name, AvroField(name, AvroType(POSITIONS[name]), (), False, None))
    return list(fields.values())


def _instant(name: str) -> AvroField:
    return _optional(AvroField(name, AvroType("long", "timestamp-millis"), (), False, None))


def _optional(field: AvroField) -> AvroField:
    """Return a field that may be null and may be missing."""
    branches = field.type.branches if field.type.kind == "union" else [field.type]
    null = AvroType("null")
    return AvroField(field.name, AvroType("union", branches=[null, *(one for one in branches if one.kind != "null")]), field.aliases, True, None)


def _as(field: AvroField, kind: AvroType) -> AvroField:
    """Return a field of another type, which may be null where it could be; its default was one of the old type."""
    _, null = field.type.without_null()
    if null < 0:
        return AvroField(field.name, kind, field.aliases, False, None)
    return AvroField(field.name, AvroType("union", branches=[AvroType("null"), kind]), field.aliases, True, None)


def _connect_names(text: str) -> list[tuple[str, str]]:
    """Return dotted name and Connect's name of every field's type that has one; records are followed where they are defined."""
    names: list[tuple[str, str]] = []

    def visit(declared: Any, prefix: str) -> None:  # Avro JSON is free-form
        if isinstance(declared, list):
            for branch in declared:
                visit(branch, prefix)
        elif isinstance(declared, dict):
            if name := connect_name(declared):
                names.append((prefix.rstrip("."), name))
            for part in ("type", "items", "values"):
                if isinstance(declared.get(part), (dict, list)):
                    visit(declared[part], prefix)
            for field in declared.get("fields", ()) if declared.get("type") == "record" else ():
                visit(field.get("type"), f"{prefix}{field.get('name')}.")

    # The parser has read it before, so it is no deeper than allowed.
    visit(json.loads(text), "")
    return names
