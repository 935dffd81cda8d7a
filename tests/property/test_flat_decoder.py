"""The flat decoder against fastavro and against the guarded path, for random schemas, rows and damage."""

import io
import json
from typing import Any

import fastavro
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.avro.arrow_types import arrow_schema
from shared.avro.columns import ColumnDecoder
from shared.avro.flat_decoder import FlatDecoder
from shared.avro.registry import MemorySchemaRegistry
from shared.avro.wire import header
from shared.streaming.packed import Packed

_KINDS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "string": ("string", st.text(max_size=12)),
    "long": ("long", st.integers(-(2**63), 2**63 - 1)),
    "int": ("int", st.integers(-(2**31), 2**31 - 1)),
    "double": ("double", st.floats(allow_nan=False)),
    "float": ("float", st.floats(width=32, allow_nan=False)),
    "boolean": ("boolean", st.booleans()),
    "millis": ({"type": "long", "logicalType": "timestamp-millis"}, st.integers(-(2**40), 2**40)),
    "date": ({"type": "int", "logicalType": "date"}, st.integers(-100_000, 100_000)),
}
_PLAIN = {"millis": "long", "date": "int"}
fields = st.lists(st.tuples(st.sampled_from(sorted(_KINDS)), st.sampled_from(["plain", "null first", "null last"])), min_size=1, max_size=6)


@st.composite
def written(draw: st.DrawFn) -> tuple[str, list[dict[str, Any]], list[bytes]]:
    """Draw a schema, rows (times as numbers) and their encodings by fastavro, without header."""
    chosen = draw(fields)
    own: list[dict[str, Any]] = []
    plain: list[dict[str, Any]] = []
    values: list[st.SearchStrategy[Any]] = []
    for i, (kind, null) in enumerate(chosen):
        declared, items = _KINDS[kind]
        for target, base in ((own, declared), (plain, _PLAIN.get(kind, kind))):
            union = {"plain": base, "null first": ["null", base], "null last": [base, "null"]}[null]
            target.append({"name": f"f{i}", "type": union})
        values.append(items if null == "plain" else st.none() | items)
    rows = draw(st.lists(st.fixed_dictionaries({f"f{i}": item for i, item in enumerate(values)}), min_size=1, max_size=8))
    parsed = fastavro.parse_schema({"type": "record", "name": "R", "fields": plain})
    encoded = []
    for row in rows:
        body = io.BytesIO()
        fastavro.schemaless_writer(body, parsed, row)
        encoded.append(body.getvalue())
    return json.dumps({"type": "record", "name": "R", "fields": own}), rows, encoded


def _packed(messages: list[bytes]) -> Packed:
    packed = Packed.of(messages)
    assert packed is not None
    return packed


def _plain_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    columns = []
    for column in batch.columns:
        kind = column.type
        wide = pa.int64() if pa.types.is_timestamp(kind) else pa.int32() if pa.types.is_date(kind) else kind
        columns.append(column.view(wide) if wide != kind else column)
    rows: list[dict[str, Any]] = pa.RecordBatch.from_arrays(columns, names=batch.schema.names).to_pylist()
    return rows


@given(given_rows=written(), skip=st.integers(0, 7))
@settings(max_examples=150, deadline=None)
def test_whole_messages_are_read_as_fastavro_wrote_them(given_rows: tuple[str, list[dict[str, Any]], list[bytes]], skip: int) -> None:
    schema, rows, encoded = given_rows
    decoder = FlatDecoder.of(schema, arrow_schema(schema))
    assert decoder is not None
    batch = decoder.decode(_packed([bytes(skip) + body for body in encoded]), skip)
    assert batch is not None
    batch.validate(full=True)
    assert batch.schema.equals(arrow_schema(schema))
    assert _plain_rows(batch) == rows


@given(given_rows=written(), data=st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_messages_are_left_to_the_guards_or_read_as_they_read_them(
    given_rows: tuple[str, list[dict[str, Any]], list[bytes]], data: st.DataObject
) -> None:
    schema, _, encoded = given_rows
    place = data.draw(st.integers(0, len(encoded) - 1))
    body = bytearray(encoded[place])
    for _ in range(data.draw(st.integers(1, 3))):
        damage = data.draw(st.sampled_from(["flip", "cut", "add"]))
        if damage == "add":
            body.append(data.draw(st.integers(0, 255)))
        elif damage == "cut" and body:
            del body[data.draw(st.integers(0, len(body) - 1)) :]
        elif body:
            body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    encoded[place] = bytes(body)
    flat = FlatDecoder.of(schema, arrow_schema(schema))
    assert flat is not None
    found = flat.decode(_packed(encoded), 0)
    if found is None:
        return
    found.validate(full=True)
    registry = MemorySchemaRegistry()
    head = header(registry.register("s", schema))
    guarded = ColumnDecoder(registry, schema)
    guarded.decode([head + body for body in encoded])
    (writer,) = guarded._writers.values()
    writer._flat = None
    again = guarded.decode([head + body for body in encoded])
    assert not again.errors
    assert repr(_plain_rows(found)) == repr(_plain_rows(again.batch))
