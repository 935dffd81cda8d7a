"""Arrays, maps and unions as Arrow columns: their items are records of one or two fields, read as any others."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.shared.avro import read_kernel
from tidemill.shared.avro.leaf_columns import Present, TextColumn, Verdicts
from tidemill.shared.avro.schema_tree import AvroField, AvroType, UnreadableSchema
from tidemill.shared.avro.skip_program import SkipProgram

if TYPE_CHECKING:
    from tidemill.shared.avro.record_reader import RecordReader

NewReader = Callable[[AvroType, AvroType], "RecordReader"]


def item_record(item: AvroType, keyed: bool) -> AvroType:
    """Return the record that stands for an item of an array, or (`keyed`) for an entry of a map."""
    made = AvroType("record", name="Item")
    if keyed:
        made.fields.append(AvroField("key", AvroType("string"), (), False, None))
    made.fields.append(AvroField("value", item, (), False, None))
    return made


def list_column(name: str, writer: AvroType, reader: AvroType, kind: pa.DataType, new_reader: NewReader) -> TextColumn:
    """Return the maker of a column of arrays or maps from their encodings; an item that is refused refuses its record."""
    keyed = reader.kind == "map"
    program = SkipProgram()
    item = program.number(writer.item)
    table = program.table()
    problem, items = "", None
    try:
        items = new_reader(item_record(writer.item, keyed), item_record(reader.item, keyed))
    except UnreadableSchema as error:
        problem = str(error)
    value = kind.item_field if keyed else kind.value_field

    def make(content: NDArray[np.uint8], places: NDArray[np.int64], ends: NDArray[np.int64], present: Present, verdicts: Verdicts) -> pa.Array:
        n = len(places)
        counts = np.empty(n, np.int64)
        read_kernel.count_items(content, places, ends, item, keyed, table.nodes, table.children, counts)
        offsets = np.zeros(n + 1, np.int64)
        np.cumsum(counts, out=offsets[1:])
        begins, stops = np.empty(offsets[-1], np.int64), np.empty(offsets[-1], np.int64)
        if items is None:
            verdicts.refuse_all(counts > 0, "incompatible_schema", f"{name}[]: {problem}")
            columns, offsets = [pa.array([], one.type) for one in ([kind.key_field, value] if keyed else [value])], np.zeros(n + 1, np.int64)
        else:
            read_kernel.place_items(content, places, ends, item, keyed, table.nodes, table.children, begins, stops)
            columns = _item_columns(items, content, begins, stops, value.type, keyed, lambda at, reason, detail: verdicts.refuse(
                int(np.searchsorted(offsets, at, side="right")) - 1, reason, f"{name}[]: {detail}"
            ))  # fmt: skip
        missing = 0 if present is None else n - int(np.count_nonzero(present))
        bitmap = pa.py_buffer(np.packbits(present, bitorder="little")) if missing and present is not None else None
        child = pa.StructArray.from_arrays(columns, fields=[kind.key_field, value]) if keyed else columns[0]
        return pa.Array.from_buffers(kind, n, [bitmap, pa.py_buffer(offsets.astype(np.int32))], missing, children=[child])

    return make


def _item_columns(
    items: "RecordReader", content: NDArray[np.uint8], begins: NDArray[np.int64], stops: NDArray[np.int64], value: pa.DataType, keyed: bool,
    refuse: Callable[[int, str, str], None],
) -> list[pa.Array]:  # fmt: skip
    columns, verdicts, absent = items.read_with_groups(content, begins, stops)
    for at, (reason, detail) in verdicts.items():
        refuse(at, reason, detail)
    # Arrow ends the process when a key of a map is null; those here are of items that are refused.
    keys = [pc.fill_null(columns[0], "")] if keyed else []
    if not pa.types.is_struct(value):
        return [*keys, columns[len(keys)]]
    parts = columns[len(keys) :]
    mask = pa.array(absent) if absent is not None and absent.any() else None
    if not parts:
        return [*keys, pa.array([{}] * len(begins), value)]
    return [*keys, pa.StructArray.from_arrays(parts, fields=list(value), mask=mask)]


def union_column(name: str, writer: AvroType, reader: AvroType, kind: pa.DataType, new_reader: NewReader) -> TextColumn:
    """Return the maker of a column from a writer's union of any types: the branch a value has taken must be one that the reader can read."""
    readers: list[RecordReader | str] = []
    for branch in writer.branches:
        try:
            readers.append(new_reader(item_record(branch, False), item_record(reader, False)) if branch.kind != "null" else "")
        except UnreadableSchema as error:
            readers.append(str(error))

    def make(content: NDArray[np.uint8], places: NDArray[np.int64], ends: NDArray[np.int64], present: Present, verdicts: Verdicts) -> pa.Array:
        n = len(places)
        branches, begins = np.empty(n, np.int64), np.empty(n, np.int64)
        read_kernel.read_branches(content, places, ends, branches, begins)
        stops = places + np.diff(ends)
        parts, rows_of = [pa.nulls(1, kind)], np.zeros(n, np.int64)
        for b in np.unique(branches[branches >= 0]).tolist():
            chosen = np.flatnonzero(branches == b)
            one = readers[b]
            if isinstance(one, str):
                if writer.branches[b].kind != "null":
                    verdicts.refuse_all(branches == b, "incompatible_schema", f"{name}: {one}")
                continue
            columns, own_verdicts = one.read(content, begins[chosen], stops[chosen])
            for at, (reason, detail) in own_verdicts.items():
                verdicts.refuse(int(chosen[at]), reason, detail)
            rows_of[chosen] = sum(map(len, parts)) + np.arange(len(chosen))
            parts.append(columns[0])
        return pa.concat_arrays(parts).take(pa.array(rows_of))

    return make
