import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.shared.avro.columns import ColumnDecoder, ColumnEncoder
from tidemill.shared.avro.json_values import JsonForm, flat_record
from tidemill.shared.avro.records import RecordCodec, parse
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.avro.schema_tree import parse_record
from tidemill.shared.avro.wire import header, schema_id_of
from tidemill.shared.log.errors import InvalidRecord

SCHEMAS = Path(__file__).parents[4] / "schemas"
PREDICTION = (SCHEMAS / "prediction.avsc").read_text()
REJECTED = (SCHEMAS / "rejected.avsc").read_text()


def record(fields: list[dict[str, Any]]) -> str:
    return json.dumps({"type": "record", "name": "R", "fields": fields})


def prediction(i: int, reason: str | None = None) -> dict[str, Any]:
    return {
        "request_id": f"é{i}", "model": "m", "journal_partition": 0, "journal_offset": i, "journal_time": 1_000 + i, "event_time": i, "score": i / 7,
        "predicted": 1, "model_version": "v", "deployment_sequence": -1, "variant": "champion", "reason": reason,
        "scores": None if i % 2 else {"a": i / 7, "b": 1 - i / 7}, "predicted_label": None if i % 2 else "b", "lower": None, "upper": i / 3,
        "revision": None if i % 2 else i, "control": None if i % 2 else i % 4 == 0, "propensity": None if i % 2 else 0.25,
        "expected_error": None if i % 2 else i / 9, "expected_squared_error": None if i % 2 else i / 3,
    }  # fmt: skip


def by_fastavro(schema: str, schema_id: int, rows: list[dict[str, Any]]) -> list[bytes]:
    values = []
    for row in rows:
        body = io.BytesIO()
        fastavro.schemaless_writer(body, parse(schema), row)
        values.append(header(schema_id) + body.getvalue())
    return values


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(allow_nan=False), st.none() | st.text(max_size=5), st.integers(-(2**40), 2**40)), max_size=20))
def test_bytes_agree_with_fastavro(rows: list[tuple[float, str | None, int]]) -> None:
    registry = MemorySchemaRegistry()
    encoder = ColumnEncoder(registry, "s", PREDICTION)
    records = [{**prediction(i, reason), "score": score, "journal_offset": offset} for i, (score, reason, offset) in enumerate(rows)]
    batch = pa.RecordBatch.from_pylist(records, schema=encoder.arrow)
    values = encoder.encode(batch)
    assert values == by_fastavro(PREDICTION, 1, records)
    decoded = ColumnDecoder(registry, PREDICTION).decode(values)
    assert decoded.batch.equals(batch)
    assert not decoded.errors


@pytest.mark.parametrize("count", [1, 9])
def test_columns_that_are_null_throughout_are_what_fastavro_writes(count: int) -> None:
    registry = MemorySchemaRegistry()
    encoder = ColumnEncoder(registry, "s", PREDICTION)
    absent = dict.fromkeys(("reason", "scores", "predicted_label", "lower", "upper"))
    batch = pa.RecordBatch.from_pylist([{**prediction(i), **absent} for i in range(count)], schema=encoder.arrow)
    values = encoder.encode(batch)
    assert values == by_fastavro(PREDICTION, 1, [{**prediction(i), **absent} for i in range(count)])
    assert ColumnDecoder(registry, PREDICTION).decode(values).batch.equals(batch)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9), st.binary(max_size=80))
def test_a_corrupt_message_costs_no_neighbour(position: int, garbage: bytes) -> None:
    registry = MemorySchemaRegistry()
    values: list[bytes | None] = list(by_fastavro(PREDICTION, registry.register("s", PREDICTION), [prediction(i) for i in range(10)]))
    values[position] = garbage
    decoded = ColumnDecoder(registry, PREDICTION).decode(values)
    good = [i for i in range(10) if i != position]
    assert [i for i in decoded.rows.tolist() if i != position] == good
    ids = dict(zip(decoded.rows.tolist(), decoded.batch.column("request_id").to_pylist(), strict=True))
    assert [ids[i] for i in good] == [f"é{i}" for i in good]
    assert len(decoded.errors) + len(decoded.rows) == 10


def test_every_fate_has_its_reason() -> None:
    registry = MemorySchemaRegistry()
    good = by_fastavro(PREDICTION, registry.register("s", PREDICTION), [prediction(0)])[0]
    values = [good, None, b"x", header(99) + b"a", good[:-4], good.replace("é".encode(), b"\xff\xfe"), good]
    decoded = ColumnDecoder(registry, PREDICTION).decode(values)
    assert decoded.rows.tolist() == [0, 6]
    assert [(error.index, error.reason) for error in decoded.errors] == [
        (1, "null_value"), (2, "not_framed"), (3, "unknown_schema_id"), (4, "truncated"), (5, "invalid_utf8"),
    ]  # fmt: skip
    # An id that the registry does not have is no writer: junk may name as many as it likes.
    known = registry.register("s", PREDICTION)
    assert decoded.writers is not None and decoded.writers.tolist() == [known, 0, 0, 0, known, known, known]


def test_a_null_where_none_may_be_is_refused_before_it_becomes_zero() -> None:
    encoder = ColumnEncoder(MemorySchemaRegistry(), "s", record([{"name": "d", "type": "double"}]))
    with pytest.raises(ValueError, match="column 'd' must not be null, found 1 nulls in 2 rows"):
        encoder.encode(pa.RecordBatch.from_pydict({"d": [1.0, None]}))


def test_older_writers_resolve_to_the_reader() -> None:
    registry = MemorySchemaRegistry()
    old = record([{"name": "gone", "type": "string"}, {"name": "n", "type": "int"}, {"name": "was", "type": ["null", "string"]}])
    new = record(
        [
            {"name": "added", "type": "double", "default": 2.5},
            {"name": "n", "type": "double"},
            {"name": "now", "type": ["null", "string"], "aliases": ["was"], "default": None},
        ]
    )
    values = by_fastavro(old, registry.register("s", old), [{"gone": "x", "n": 3, "was": "a"}, {"gone": "y", "n": 4, "was": None}])
    decoded = ColumnDecoder(registry, new).decode(values)
    assert decoded.batch.to_pylist() == [{"added": 2.5, "n": 3.0, "now": "a"}, {"added": 2.5, "n": 4.0, "now": None}]


def test_a_null_the_reader_does_not_allow_is_an_error_of_that_row() -> None:
    registry = MemorySchemaRegistry()
    old, new = record([{"name": "n", "type": ["null", "int"]}]), record([{"name": "n", "type": "int"}])
    values = by_fastavro(old, registry.register("s", old), [{"n": 1}, {"n": None}, {"n": 3}])
    decoded = ColumnDecoder(registry, new).decode(values)
    assert decoded.batch.to_pylist() == [{"n": 1}, {"n": 3}]
    assert [(error.index, error.reason) for error in decoded.errors] == [(1, "missing_value")]


def test_bytes_go_through_fastavro() -> None:
    registry = MemorySchemaRegistry()
    encoder = ColumnEncoder(registry, "s", REJECTED)
    row = {
        "stage": "ingestion", "reason": "truncated", "detail": "", "source_topic": "t", "source_partition": 0, "source_offset": 1,
        "source_timestamp": 5, "key": None, "value": b"\xff\x00", "journal_time": 4,
    }  # fmt: skip
    batch = pa.RecordBatch.from_pylist([row], schema=encoder.arrow)
    values = encoder.encode(batch)
    assert values == by_fastavro(REJECTED, schema_id_of(values[0]), [row])
    assert ColumnDecoder(registry, REJECTED).decode(values).batch.equals(batch)


def test_single_records_say_what_is_wrong_with_them() -> None:
    registry = MemorySchemaRegistry()
    codec = RecordCodec(registry, "s", PREDICTION)
    value = codec.encode(prediction(3))
    assert codec.decode(value) == prediction(3)
    for bad, reason in ((b"x", "not_framed"), (header(99), "unknown_schema_id"), (value[:-4], "undecodable"), (value + b"!", "trailing_bytes")):
        with pytest.raises(InvalidRecord) as caught:
            codec.decode(bad)
        assert caught.value.reason == reason


FLAT = record(
    [
        {"name": "s", "type": "string"},
        {"name": "maybe", "type": ["null", "string"]},
        {"name": "back", "type": ["double", "null"]},
        {"name": "d", "type": "double"},
        {"name": "f", "type": ["null", "float"]},
        {"name": "n", "type": ["null", "long"]},
        {"name": "i", "type": "int"},
        {"name": "b", "type": ["null", "boolean"]},
        {"name": "raw", "type": ["null", "bytes"]},
        {"name": "t", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ]
)
FLAT_ROW = st.fixed_dictionaries(
    {
        "s": st.text(max_size=80),
        "maybe": st.none() | st.text(max_size=5),
        "back": st.none() | st.floats(allow_nan=False),
        "d": st.floats(allow_nan=False),
        "f": st.none() | st.floats(allow_nan=False, width=32),
        "n": st.none() | st.integers(-(2**63), 2**63 - 1),
        "i": st.integers(-(2**31), 2**31 - 1),
        "b": st.none() | st.booleans(),
        "raw": st.none() | st.binary(max_size=5),
        "t": st.integers(-(2**60), 2**60),
    }
)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(FLAT_ROW, max_size=20), begin=st.integers(0, 5))
def test_flat_records_of_every_type_agree_with_fastavro_also_in_slices(rows: list[dict[str, Any]], begin: int) -> None:
    encoder = ColumnEncoder(MemorySchemaRegistry(), "s", FLAT)
    columns = [pa.array([row[field.name] for row in rows], field.type) for field in encoder.arrow]
    batch = pa.RecordBatch.from_arrays(columns, schema=encoder.arrow).slice(begin)
    assert encoder.encode(batch) == by_fastavro(FLAT, 1, rows[begin:])


@pytest.mark.parametrize("count", [1, 5])
def test_bytes_after_the_last_field_are_found_in_any_batch(count: int) -> None:
    registry = MemorySchemaRegistry()
    values: list[bytes | None] = list(by_fastavro(PREDICTION, registry.register("s", PREDICTION), [prediction(i) for i in range(count)]))
    values[count // 2] = (values[count // 2] or b"") + b"!"
    decoded = ColumnDecoder(registry, PREDICTION, exact_length=True).decode(values)
    assert [(error.index, error.reason) for error in decoded.errors] == [(count // 2, "trailing_bytes")]
    assert len(decoded.rows) == count - 1


@pytest.mark.parametrize(
    "schema", ['"string"', "syntax = proto3;", '{"type": "object", "properties": {}}', '{"type": "array", "items": "int"}', "[]"]
)
def test_whatever_else_somebody_registered_is_a_dead_letter(schema: str) -> None:
    class Registry(MemorySchemaRegistry):
        def schema(self, schema_id: int) -> str:
            return schema if schema_id == 77 else super().schema(schema_id)

    registry = Registry()
    decoded = ColumnDecoder(registry, PREDICTION).decode([header(77) + b"abc"])
    assert [(error.index, error.reason) for error in decoded.errors] == [(0, "incompatible_schema")]
    with pytest.raises(InvalidRecord):
        RecordCodec(registry, "s", PREDICTION).decode(header(77) + b"abc")


def test_numbers_are_promoted_as_avro_says_and_bytes_must_be_text() -> None:
    registry = MemorySchemaRegistry()
    old = record([{"name": "n", "type": "long"}, {"name": "t", "type": "bytes"}])
    new = record([{"name": "n", "type": "double"}, {"name": "t", "type": "string"}])
    rows = [{"n": 2**53 + 1, "t": b"a"}, {"n": 1, "t": b"\xff\xfe"}, {"n": 3, "t": b"b"}]
    decoded = ColumnDecoder(registry, new).decode(by_fastavro(old, registry.register("s", old), rows))
    assert decoded.batch.to_pylist() == [{"n": float(2**53), "t": "a"}, {"n": 3.0, "t": "b"}]
    assert [(error.index, error.reason) for error in decoded.errors] == [(1, "invalid_utf8")]


@pytest.mark.parametrize("kind", [{"type": "bytes"}, {"type": "fixed", "name": "F", "size": 2}])
@pytest.mark.parametrize("number", ["9.99", "-1.00", "0.05"])
def test_a_decimals_default_is_the_same_number_to_writers_of_older_schemas_and_in_json(kind: dict[str, Any], number: str) -> None:
    """A schema has it as the text of the code points of its bytes: "12" would be 125.94."""
    amount = Decimal(number)
    text = int(amount.scaleb(2)).to_bytes(2, "big", signed=True).decode("latin-1")
    price = {**kind, "logicalType": "decimal", "precision": 4, "scale": 2}
    inside = {"type": "record", "name": "I", "fields": [{"name": "p", "type": "F" if "name" in kind else price}]}
    fields: list[dict[str, Any]] = [
        {"name": "n", "type": "int"},
        {"name": "price", "type": price, "default": text},
        {"name": "in", "type": inside, "default": {"p": text}},
    ]
    registry = MemorySchemaRegistry()
    old = record(fields[:1])
    values = by_fastavro(old, registry.register("s", old), [{"n": 1}])
    expected = {"n": 1, "price": amount, "in.p": amount}
    assert ColumnDecoder(registry, record(fields)).decode(values).batch.to_pylist() == [expected]
    row: dict[str, Any] = {}
    flat_record(parse_record(record(fields)), "")({"n": 1}, row)
    assert row == expected
    flat_record(parse_record(record(fields)), "")({"n": 1, "price": "1.5"}, row)
    assert row["price"] == Decimal("1.50"), "events have numbers or their text"
    foreign = JsonForm(lambda item, size, name: b"", lambda item, precision, scale, name: Decimal(7))
    flat_record(parse_record(record(fields)), "", {"n": lambda item: item + 1}, foreign)({"n": 1}, row)
    assert row == {**expected, "n": 2}
