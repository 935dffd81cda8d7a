"""Arrow columns as framed Avro records, in the calling thread.

What it writes decodes again to the same columns: a value that the schema cannot hold (a symbol beyond the enum, bytes of another length, a null) is a
ValueError, never an entry that nobody can read.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.shared.avro import write_kernel
from tidemill.shared.avro.arrow_types import leaves
from tidemill.shared.avro.decimals import bytes_of
from tidemill.shared.avro.field_kinds import BOOLEAN, BYTES, DOUBLE, FLOAT, GROUP, LONG, SPAN, TEXT
from tidemill.shared.avro.json_values import DAY_UNITS, FIRST_DAY, LAST_DAY, UUID
from tidemill.shared.avro.nested_columns import item_record
from tidemill.shared.avro.schema_tree import AvroType
from tidemill.shared.log.packed import Packed

_KINDS = {
    "string": TEXT, "bytes": TEXT, "long": LONG, "int": LONG, "double": DOUBLE, "float": FLOAT,
    "boolean": BOOLEAN, "enum": LONG, "fixed": BYTES, "array": SPAN, "map": SPAN,
}  # fmt: skip
_LONGEST = {
    LONG: 11,
    DOUBLE: 9,
    FLOAT: 5,
    BOOLEAN: 2,
    TEXT: 11,
    BYTES: 1,
    SPAN: 1,
    GROUP: 1,
}
_TEXTS = (TEXT, BYTES, SPAN)
_Texts = tuple[NDArray[np.uint8], NDArray[np.int64]]
_TextsOf = Callable[[pa.Array], _Texts]


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of the kernel and the column it is written from (-1: a record that may be null, there where one of columns [first, last) is)."""

    name: str
    kind: int
    null: int
    column: int
    first: int
    last: int
    required: bool
    type: AvroType | None
    texts: _TextsOf | None


class RecordWriter:
    """Writes records of one type.

    Parameters
    ----------
    record
        The type.
    header
        What every message begins with.
    """

    def __init__(self, record: AvroType, header: bytes) -> None:
        self._fields: list[_Field] = []
        sizes: list[int] = []
        self._columns = 0
        self._add(record, "", False, sizes)
        leaves(record)
        kinds = [field.kind for field in self._fields]
        self._kinds = np.array(kinds, np.int8)
        self._nulls = np.array([field.null for field in self._fields], np.int8)
        self._sizes = np.array(sizes, np.int64)
        texts = np.isin(self._kinds, _TEXTS)
        self._slots = np.where(texts, np.cumsum(texts), np.cumsum(~texts)) - 1
        self._texts, self._numbers = int(texts.sum()), int((~texts).sum())
        self._head = np.frombuffer(header, np.uint8)
        self._row_bytes = len(header) + sum(_LONGEST[kind] for kind in kinds)

    def _add(self, record: AvroType, prefix: str, in_nullable: bool, sizes: list[int]) -> None:
        for field in record.fields:
            inner, null = field.type.without_null()
            name = prefix + field.name
            if inner.kind != "record":
                self._fields.append(_Field(name, _KINDS[inner.kind], null, self._columns, 0, 0, null < 0, inner, _texts_of(inner, name)))
                sizes.append(0)
                self._columns += 1
                continue
            at, first = len(self._fields), self._columns
            if null >= 0:
                self._fields.append(_Field(name, GROUP, null, -1, first, first, False, None, None))
                sizes.append(0)
            self._add(inner, f"{name}.", in_nullable or null >= 0, sizes)
            if null >= 0:
                sizes[at] = len(self._fields) - at - 1
                self._fields[at] = _Field(name, GROUP, null, -1, first, self._columns, False, None, None)

    def encode(self, batch: pa.RecordBatch) -> Packed:
        """Return one message per row; the columns are those of the schema, in its order, of its Arrow types.

        Raises
        ------
        ValueError
            A value that the schema cannot hold, by column.
        """
        n = batch.num_rows
        if not n:
            return Packed(np.empty(0, np.uint8), np.zeros(1, np.int64))
        columns = batch.columns
        numbers = np.empty((self._numbers, n), np.int64)
        valid = np.ones((len(self._fields), n), np.uint8)
        ends = np.zeros((self._texts, n + 1), np.int64)
        texts: list[NDArray[np.uint8]] = []
        base = 0
        for f, (field, slot) in enumerate(zip(self._fields, self._slots.tolist(), strict=True)):
            if field.kind == GROUP:
                valid[f] = _any_valid(columns[field.first : field.last], n)
                continue
            column = columns[field.column]
            nulls = column.null_count
            if nulls == n and not field.required:
                valid[f] = 0
                continue
            if nulls:
                valid[f] = _valid(column)
                if field.required:
                    self._check_required(f, valid)
            if field.kind in _TEXTS:
                content, stops = _plain_texts(column) if field.texts is None else field.texts(column)
                first, last = int(stops[0]), int(stops[-1])
                np.add(stops, base - first, out=ends[slot])
                if last > first:
                    texts.append(content[first:last])
                    base += last - first
            else:
                _put_numbers(field, column, numbers[slot])
        content = np.concatenate(texts) if texts else np.empty(0, np.uint8)
        out = np.empty(n * self._row_bytes + base, np.uint8)
        stops = np.empty(n + 1, np.int64)
        write_kernel.write_rows(self._head, self._kinds, self._nulls, self._sizes, self._slots, numbers, valid, ends, content, out, stops)
        return Packed(out, stops)

    def _check_required(self, f: int, valid: NDArray[np.uint8]) -> None:
        """A value may be absent only where a record around it is null."""
        missing = valid[f] == 0
        for g, group in enumerate(self._fields[:f]):
            if group.kind == GROUP and group.first <= self._fields[f].column < group.last:
                missing = missing & (valid[g] != 0)
        if missing.any():
            count = int(missing.sum())
            raise ValueError(f"column {self._fields[f].name!r} must not be null, found {count} nulls in {len(missing)} rows")


def _put_numbers(field: _Field, column: pa.Array, out: NDArray[np.int64]) -> None:
    begin, end = column.offset, column.offset + len(column)
    if field.type is not None and field.type.kind == "enum":
        indices = pc.index_in(column, value_set=pa.array(field.type.symbols, pa.string()))
        if indices.null_count > column.null_count:
            unknown = column.filter(pc.and_(pc.is_null(indices), pc.is_valid(column)))[0].as_py()
            raise ValueError(f"column {field.name!r}: expected one of {', '.join(field.type.symbols)[:200]}, found {unknown[:80]!r}")
        out[:] = pc.fill_null(indices, 0).to_numpy(zero_copy_only=False)
        return
    content = column.buffers()[1]
    if field.kind == DOUBLE:
        out[:] = np.frombuffer(content, np.int64)[begin:end]
    elif field.kind == LONG:
        out[:] = np.frombuffer(content, np.int64 if column.type.bit_width == 64 else np.int32)[begin:end]
        if field.type is not None and field.type.logical in _BOUNDS:
            _check_bounds(field, column, out)
    elif field.kind == BOOLEAN:
        out[:] = _bits(content, begin, len(column))
    else:
        out[:] = np.frombuffer(content, np.uint32)[begin:end]


_BOUNDS = {"date": (FIRST_DAY, LAST_DAY)} | {logical: (0, most - 1) for logical, most in DAY_UNITS.items()}


def _check_bounds(field: _Field, column: pa.Array, numbers: NDArray[np.int64]) -> None:
    low, high = _BOUNDS[field.type.logical] if field.type is not None else (0, 0)
    beyond = (numbers < low) | (numbers > high)
    if beyond.any() and bool((beyond & (_valid(column) != 0)).any()):
        raise ValueError(f"column {field.name!r}: expected numbers from {low} to {high}, found {int(numbers[beyond][0])}")


def _texts_of(kind: AvroType, name: str) -> _TextsOf | None:
    """Return what turns a column into the bytes of its values; None when they are that already."""
    if kind.logical == "decimal":
        size = kind.size if kind.kind == "fixed" else None
        return lambda column: bytes_of(column, size)
    if kind.logical == "uuid":
        return _uuid_bytes if kind.kind == "fixed" else lambda column: _plain_texts(_checked_uuids(column, name))
    if kind.kind == "fixed":
        return lambda column: _fixed(column, kind.size, name)
    if kind.kind in ("array", "map"):
        return _items_of(kind)
    return None


def _plain_texts(column: pa.Array) -> _Texts:
    _, offsets, content = column.buffers()
    stops = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(b"" if content is None else content, np.uint8), stops.astype(np.int64)


def _fixed(column: pa.Array, size: int, name: str) -> _Texts:
    content, stops = _plain_texts(column)
    wrong = (np.diff(stops) != size) & (_valid(column) != 0)
    if wrong.any():
        raise ValueError(f"column {name!r}: expected {size} bytes, found {int(np.diff(stops)[wrong][0])}")
    return content, stops


def _checked_uuids(column: pa.Array, name: str) -> pa.Array:
    fits = pc.match_substring_regex(column, f"^{UUID.pattern}$")
    if not pc.all(fits, min_count=0).as_py():
        raise ValueError(f"column {name!r}: expected uuids, found {column.filter(pc.invert(fits))[0].as_py()[:80]!r}")
    return column


def _uuid_bytes(column: pa.Array) -> _Texts:
    content, stops = _plain_texts(_checked_uuids(column, "uuid"))
    plain = bytes.fromhex(content[int(stops[0]) : int(stops[-1])].tobytes().replace(b"-", b"").decode())
    sizes = np.where(np.diff(stops) > 0, 16, 0)
    return np.frombuffer(plain, np.uint8), np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _items_of(kind: AvroType) -> _TextsOf:
    keyed = kind.kind == "map"
    writer = RecordWriter(item_record(kind.item, keyed), b"")
    as_struct = kind.item.without_null()[0].kind == "record"

    def encode(column: pa.Array) -> _Texts:
        n = len(column)
        offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + n + 1].astype(np.int64)
        first, last = int(offsets[0]), int(offsets[-1])
        values = (column.items if keyed else column.values).slice(first, last - first)
        columns = [column.keys.slice(first, last - first)] if keyed else []
        columns += values.flatten() if as_struct else [values]
        items = writer.encode(pa.RecordBatch.from_arrays(columns, names=[str(i) for i in range(len(columns))]))
        out = np.empty(int(items.stops[-1]) + 12 * n, np.uint8)
        ends = np.empty(n + 1, np.int64)
        write_kernel.join_items(items.content, items.stops, offsets - first, _valid(column), out, ends)
        return out[: int(ends[-1])], ends

    return encode


def _valid(column: pa.Array) -> NDArray[np.uint8]:
    bitmap = column.buffers()[0]
    return np.ones(len(column), np.uint8) if bitmap is None else _bits(bitmap, column.offset, len(column))


def _any_valid(columns: list[pa.Array], n: int) -> NDArray[np.uint8]:
    valid = np.zeros(n, np.uint8)
    for column in columns:
        valid |= _valid(column)
    return valid


def _bits(buffer: pa.Buffer, offset: int, n: int) -> NDArray[np.uint8]:
    """Unpack n bits of a bitmap."""
    first = offset // 8
    within = offset - 8 * first
    return np.unpackbits(np.frombuffer(buffer, np.uint8)[first : (offset + n + 7) // 8], bitorder="little")[within : within + n]
