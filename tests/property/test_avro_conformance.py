"""The codec against fastavro for every type and nesting: bytes, columns, damage, neighbours."""

import json
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.long_forms import examples
from tests.property.avro_types import decoded, encoded, flattened, record_and_rows
from tidemill.shared.avro.columns import ColumnDecoder, ColumnEncoder
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.avro.wire import header

HEAD = header(1)


def as_numbers(column: pa.Array) -> pa.Array:
    """Return times as the numbers they are in Avro, also within arrays, maps and records."""
    return column.cast(_numbers(column.type), safe=False) if _numbers(column.type) != column.type else column


def _numbers(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_temporal(kind):
        return pa.int32() if kind.bit_width == 32 else pa.int64()
    if pa.types.is_map(kind):
        return pa.map_(pa.string(), kind.item_field.with_type(_numbers(kind.item_type)))
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_numbers(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_numbers(field.type)) for field in kind])
    return kind


def rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    names, columns = batch.schema.names, [as_numbers(column).to_pylist() for column in batch.columns]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


@settings(max_examples=examples(150), deadline=None)
@given(record_and_rows())
def test_every_type_is_read_as_fastavro_wrote_it_and_written_back(drawn: tuple[str, list[dict[str, Any]]]) -> None:
    schema, rows = drawn
    registry = MemorySchemaRegistry()
    encoder = ColumnEncoder(registry, "s", schema)
    reading = ColumnDecoder(registry, schema, exact_length=True).decode([HEAD + encoded(schema, row) for row in rows])
    assert not reading.errors
    reading.batch.validate(full=True)
    expected = [flattened(json.loads(schema), row) for row in rows]
    assert rows_of(reading.batch) == expected
    again = encoder.encode(reading.batch)
    # A record that may be null and holds nothing but nulls is written as null: the same columns in other bytes.
    assert rows_of(ColumnDecoder(registry, schema, exact_length=True).decode(again).batch) == expected
    for value, row in zip(again, rows, strict=True):
        assert flattened(json.loads(schema), decoded(schema, schema, value[5:])) == flattened(json.loads(schema), row)
    assert list(encoder.encode(reading.batch.slice(1))) == list(again)[1:]


@settings(max_examples=examples(150), deadline=None)
@given(record_and_rows(), st.data())
def test_damage_costs_its_record_only_whatever_its_neighbours(drawn: tuple[str, list[dict[str, Any]]], data: st.DataObject) -> None:
    schema, rows = drawn
    registry = MemorySchemaRegistry()
    registry.register("s", schema)
    values = [HEAD + encoded(schema, row) for row in rows]
    for _ in range(data.draw(st.integers(1, 3))):
        i = data.draw(st.integers(0, len(values) - 1))
        body = bytearray(values[i][5:])
        damage = data.draw(st.sampled_from(["cut", "flip", "more", "noise"]))
        if damage == "cut":
            body = body[: data.draw(st.integers(0, max(0, len(body) - 1)))]
        elif damage == "flip" and body:
            body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
        elif damage == "more":
            body += data.draw(st.binary(min_size=1, max_size=3))
        else:
            body = bytearray(data.draw(st.binary(max_size=30)))
        values[i] = HEAD + bytes(body)
    decoder = ColumnDecoder(registry, schema, exact_length=True)
    reading = decoder.decode(values)
    together = {i: row for i, row in zip(reading.rows.tolist(), rows_of(reading.batch), strict=True)}
    verdicts = {error.index: (error.reason, error.detail) for error in reading.errors}
    assert sorted([*together, *verdicts]) == list(range(len(values)))
    for i, value in enumerate(values):
        alone = decoder.decode([value])
        assert [(error.reason, error.detail) for error in alone.errors] == ([verdicts[i]] if i in verdicts else [])
        assert repr(rows_of(alone.batch)) == repr([together[i]] if i in together else [])
    # What is accepted can be written and read again: no accepted record is one that nobody can read.
    encoder = ColumnEncoder(registry, "s", schema)
    assert repr(rows_of(decoder.decode(encoder.encode(reading.batch)).batch)) == repr(rows_of(reading.batch))


@settings(max_examples=examples(100), deadline=None)
@given(record_and_rows(), record_and_rows(depth=1), st.data())
def test_fields_the_reader_does_not_know_are_skipped_whatever_their_type(
    theirs: tuple[str, list[dict[str, Any]]], ours: tuple[str, list[dict[str, Any]]], data: st.DataObject
) -> None:
    writer, reader = json.loads(theirs[0]), json.loads(ours[0])
    text = json.dumps(reader).replace('"N', '"M')
    known = [{**field, "name": f"own_{field['name']}"} for field in json.loads(text)["fields"]]
    mixed = data.draw(st.permutations([*writer["fields"], *known]))
    merged = json.dumps({"type": "record", "name": "R", "fields": mixed})
    wanted = json.dumps({"type": "record", "name": "R", "fields": known})
    rows = [{**a, **{f"own_{key}": value for key, value in b.items()}} for a, b in zip(theirs[1], ours[1], strict=False)]
    registry = MemorySchemaRegistry()
    registry.register("s", merged)
    reading = ColumnDecoder(registry, wanted, exact_length=True).decode([HEAD + encoded(merged, row) for row in rows])
    assert not reading.errors
    assert rows_of(reading.batch) == [
        flattened(json.loads(wanted), {key: value for key, value in row.items() if key.startswith("own_")}) for row in rows
    ]
