"""Avro's rules of schema resolution: which type of a writer a reader can read, and what becomes of it."""

from tidemill.shared.avro.schema_tree import AvroField, AvroType, UnreadableSchema

_PROMOTIONS = {
    "int": ("int", "long", "float", "double"),
    "long": ("long", "float", "double"),
    "float": ("float", "double"),
    "double": ("double",),
    "string": ("string", "bytes"),
    "bytes": ("bytes", "string"),
    "boolean": ("boolean",),
}
_UNITS = {
    "timestamp-millis": "ms", "local-timestamp-millis": "ms", "timestamp-micros": "us", "local-timestamp-micros": "us",
    "timestamp-nanos": "ns", "local-timestamp-nanos": "ns", "date": "days", "time-millis": "ms of the day", "time-micros": "us of the day",
}  # fmt: skip


def refusal(writer: AvroType, reader: AvroType) -> str:
    """Say why no value of the writer's type (neither of them a union, or a record) can become one of the reader's; empty when it can."""
    if writer.kind in _PROMOTIONS and reader.kind in _PROMOTIONS[writer.kind]:
        return _refusal_by_meaning(writer, reader)
    if writer.kind != reader.kind:
        return f"expected {reader} or what promotes to it, the writer has {writer}"
    if writer.kind in ("enum", "fixed"):
        if not _same_name(writer, reader):
            return f"expected {reader}, the writer has {writer}; an alias would join the two"
        if writer.size != reader.size:
            return f"expected {reader} of {reader.size} bytes, the writer has {writer.size}"
        return _refusal_by_meaning(writer, reader)
    return ""


def _refusal_by_meaning(writer: AvroType, reader: AvroType) -> str:
    """Refuse what the specification would read as another quantity: two declared units that differ, decimals that differ."""
    units = _UNITS.get(writer.logical), _UNITS.get(reader.logical)
    if None not in units and units[0] != units[1]:
        return f"expected {reader}, the writer has {writer}, another unit"
    if "decimal" in (writer.logical, reader.logical) and writer.kind in ("bytes", "fixed"):
        theirs, ours = (writer.logical, writer.precision, writer.scale), (reader.logical, reader.precision, reader.scale)
        if writer.logical and reader.logical and theirs != ours:
            return f"expected decimal({ours[1]}, {ours[2]}), the writer has decimal({theirs[1]}, {theirs[2]})"
    return ""


def _same_name(writer: AvroType, reader: AvroType) -> bool:
    namespace = reader.name.rpartition(".")[0]
    full = [alias if "." in alias or not namespace else f"{namespace}.{alias}" for alias in reader.aliases]
    return writer.unqualified == reader.unqualified or writer.name in full


def writers_field(record: AvroType, wanted: AvroField) -> AvroField | None:
    """Find the writer's field that a reader's field reads: of its name, else of one of its aliases."""
    by_name = {field.name: field for field in record.fields}
    return next((by_name[name] for name in (wanted.name, *wanted.aliases) if name in by_name), None)


def require_default(record: AvroType, wanted: AvroField) -> None:
    """Raise UnreadableSchema unless the reader's field has a default."""
    if not wanted.has_default:
        raise UnreadableSchema(f"field {wanted.name} is not in the writer's schema ({record.name}) and has no default")
