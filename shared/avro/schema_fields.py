"""What a writer's schema says field by field, and how two of them differ."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tidemill.shared.avro.schema_tree import AvroField, AvroType

FieldChangeKind = Literal["added", "dropped", "retyped", "renamed"]
Effect = Literal["none", "read", "lost"]
_MOST_FIELDS = 500
_MOST_DEPTH = 8
_MOST_SYMBOLS = 20


@dataclass(frozen=True, slots=True)
class SchemaField:
    """A leaf of a record: its type in words, and the full names it had before, as its aliases say."""

    type: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FieldChange:
    """How one field of a later schema differs.

    Attributes
    ----------
    field
        Its name now; of a field that was dropped, its name before.
    before, now
        Its type, and of a field that was renamed its name; empty where there was or is none.
    column
        The application's column that is read from it, empty where none is.
    effect
        ``lost``: nothing that the column is read from is left. ``read``: values still come. ``none``: no column is read from it.
    """

    field: str
    change: FieldChangeKind
    before: str
    now: str
    column: str = ""
    effect: Effect = "none"


def schema_fields(record: AvroType) -> dict[str, SchemaField]:
    """Return the leaves of a record by dotted name: the first 500 in the order of the schema, records within records 8 deep."""
    fields: dict[str, SchemaField] = {}
    for path, prefix, one in _leaves(record, "", 0):
        if len(fields) >= _MOST_FIELDS:
            break
        fields[path] = SchemaField(_words(one.type), tuple(prefix + alias for alias in one.aliases))
    return fields


def columns_by_name(reader: Mapping[str, SchemaField]) -> dict[str, str]:
    """Return the application's columns by every name under which they are read: their own and their aliases."""
    aliases = {alias: name for name, one in reader.items() for alias in one.aliases}
    return {**aliases, **{name: name for name in reader}}


def differences(before: Mapping[str, SchemaField], now: Mapping[str, SchemaField], columns: Mapping[str, str]) -> list[FieldChange]:
    """Return what differs from one schema of a stream's writer to another.

    A field is renamed where the new one has the old name as an alias, or where the application reads one column from both.

    Parameters
    ----------
    columns
        `columns_by_name` of the schema that the application reads with.

    Examples
    --------
    >>> old = {"id": SchemaField("string"), "grams": SchemaField("double"), "note": SchemaField("string")}
    >>> new = {"id": SchemaField("string"), "weight": SchemaField("double", ("grams",)), "shop": SchemaField("int")}
    >>> for one in differences(old, new, {"id": "id", "grams": "grams"}):
    ...     print(one.change, one.before, one.now, one.column, one.effect)
    renamed grams weight grams lost
    added  int  none
    dropped string   none
    """
    gone, new = [name for name in before if name not in now], [name for name in now if name not in before]
    changes: list[FieldChange] = []
    for name in list(new):
        column = columns.get(name)
        old = next((one for one in gone if one in now[name].aliases or (column is not None and columns.get(one) == column)), None)
        if old is not None:
            changes.append(_judged(FieldChange(name, "renamed", old, name), columns.get(old) or column or "", now, columns))
            gone.remove(old)
            new.remove(name)
    changes += [_judged(FieldChange(name, "added", "", now[name].type), columns.get(name, ""), now, columns) for name in new]
    changes += [_judged(FieldChange(name, "dropped", before[name].type, ""), columns.get(name, ""), now, columns) for name in gone]
    both = [name for name in now if name in before and before[name].type != now[name].type]
    return changes + [_judged(FieldChange(name, "retyped", before[name].type, now[name].type), columns.get(name, ""), now, columns) for name in both]


def _judged(change: FieldChange, column: str, now: Mapping[str, SchemaField], columns: Mapping[str, str]) -> FieldChange:
    if not column:
        return change
    effect: Effect = "read" if any(columns.get(name) == column for name in now) else "lost"
    return FieldChange(change.field, change.change, change.before, change.now, column, effect)


def _leaves(record: AvroType, prefix: str, depth: int) -> Iterator[tuple[str, str, AvroField]]:
    for one in record.fields:
        inner, _ = one.type.without_null()
        if inner.kind == "record" and depth < _MOST_DEPTH:
            yield from _leaves(inner, f"{prefix}{one.name}.", depth + 1)
        else:
            yield prefix + one.name, prefix, one


def _words(one: AvroType) -> str:
    if one.kind == "union":
        return " or ".join(_one_word(branch) for branch in one.branches)
    return _one_word(one)


def _one_word(one: AvroType) -> str:
    if one.logical == "decimal":
        return f"decimal({one.precision}, {one.scale})"
    if one.logical:
        return one.logical
    if one.kind == "enum":
        return f"enum of {_listed(one.symbols)}"
    if one.kind == "fixed":
        return f"fixed of {one.size} bytes"
    if one.kind in ("array", "map"):
        return f"{one.kind} of {one.item.name or one.item.logical or one.item.kind}"
    return f"record {one.name}" if one.kind == "record" else one.kind


def _listed(symbols: Sequence[str]) -> str:
    return ", ".join(symbols[:_MOST_SYMBOLS]) + (", ..." if len(symbols) > _MOST_SYMBOLS else "")
