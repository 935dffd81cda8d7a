"""Whether a reader's schema can read what a writer's schema has written, by Avro's rules of resolution, before anything is read."""

from tidemill.shared.avro.resolution import refusal, writers_field
from tidemill.shared.avro.schema_tree import AvroType, parse_type


def incompatibilities(writer: str, reader: str) -> list[str]:
    """Say for each place why values of the writer's schema cannot be read with the reader's; empty when all of them can.

    A value that only some writers' values would have (an enum's symbol, a branch of a union) counts: what may be written must be readable.

    Raises
    ------
    UnreadableSchema
        One of them is no Avro schema.

    Examples
    --------
    >>> one = '{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}]}'
    >>> two = '{"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}, {"name": "b", "type": "string"}]}'
    >>> incompatibilities(one, two)
    ['field b is new and has no default']
    """
    problems: list[str] = []
    _compare(parse_type(writer), parse_type(reader), "", problems, set())
    return problems


def _compare(writer: AvroType, reader: AvroType, at: str, problems: list[str], seen: set[tuple[int, int]]) -> None:
    if (id(writer), id(reader)) in seen:
        return
    seen.add((id(writer), id(reader)))
    if writer.kind == "union":
        for branch in writer.branches:
            _compare(branch, reader, at, problems, seen)
        return
    if reader.kind == "union":
        trials: list[list[str]] = []
        for branch in reader.branches:
            own: list[str] = []
            _compare(writer, branch, at, own, set(seen))
            trials.append(own)
        if all(trials):
            problems.append(f"{_place(at)}expected {reader}, the writer may have {writer}")
        return
    if writer.kind == reader.kind == "record":
        _fields(writer, reader, at, problems, seen)
        return
    if why := refusal(writer, reader):
        problems.append(f"{_place(at)}{why}")
    elif writer.kind in ("array", "map"):
        _compare(writer.item, reader.item, f"{at}[]", problems, seen)
    elif writer.kind == "enum" and reader.default is None and (gone := [symbol for symbol in writer.symbols if symbol not in reader.symbols]):
        problems.append(f"{_place(at)}{reader} lacks the symbol {gone[0]} and has no default symbol")


def _fields(writer: AvroType, reader: AvroType, at: str, problems: list[str], seen: set[tuple[int, int]]) -> None:
    for wanted in reader.fields:
        name = f"{at}.{wanted.name}" if at else wanted.name
        source = writers_field(writer, wanted)
        if source is not None:
            _compare(source.type, wanted.type, name, problems, seen)
        elif not wanted.has_default:
            problems.append(f"field {name} is new and has no default")


def _place(at: str) -> str:
    return f"field {at}: " if at else ""
