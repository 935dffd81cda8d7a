import json

import pytest

from tidemill.services.ingestion.raw_decoder import RawDecoder
from tidemill.shared.avro.json_events import JsonDecoder
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.avro.wire import header

SCHEMA = json.dumps(
    {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "id", "type": "string"},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "x", "type": ["null", "double"], "default": None},
            {"name": "n", "type": "int", "default": 4},
            {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}], "default": None},
            {"name": "hour", "type": ["null", {"type": "int", "logicalType": "time-millis"}], "default": None},
        ],
    }
)


def test_times_are_milliseconds_or_text_and_defaults_fill_in() -> None:
    values = [
        b'{"id": "a", "at": 1500}',
        b'{"id": "b", "at": "1970-01-01T01:00:02+01:00", "x": 2, "n": 5}',
        b'{"id": "c", "at": "1970-01-01T00:00:03"}',
    ]
    decoded = JsonDecoder(SCHEMA).decode(values)
    assert not decoded.errors
    assert decoded.batch.column("at").view("int64").to_pylist() == [1500, 2000, 3000]
    assert decoded.batch.column("x").to_pylist() == [None, 2.0, None]
    assert decoded.batch.column("n").to_pylist() == [4, 5, 4]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"{", "Expecting property name"),
        (b'{"id": "a"}', "expected a value in at"),
        (b'{"id": "a", "at": true}', "expected milliseconds or ISO 8601 text in at, found True"),
        (b'{"id": "a", "at": "noon"}', "noon"),
        (b'{"id": "a", "at": 1, "xx": 1}', "found xx"),
        (b'{"id": "a", "at": 1, "x": NaN}', "expected a number in x, found NaN, which JSON does not have"),
        (b'{"id": "a", "at": 1, "n": ' + b"9" * 5_000 + b"}", "expected a number of at most 4,300 digits in n, found one of 5,000"),
        (b'{"id": "a", "at": 1, "day": "2024-02-30"}', "expected an ISO 8601 date in day, found '2024-02-30'"),
        (b'{"id": "a", "at": 1, "hour": "25:00"}', "expected an ISO 8601 time of day in hour, found '25:00'"),
        (b'{"id": "a", "at": 1, "hour": "12:00+02:00"}', "expected a time of day without an offset in hour, found '12:00+02:00'"),
        (b'{"id": 5, "at": 1}', "expected string in id, found 5"),
        (b'{"id": "a", "at": 1, "n": 1.5}', "expected int32 in n, found 1.5"),
        (b'{"id": "a", "at": 1, "n": true}', "expected int32 in n, found True"),
        (b'{"id": "a", "at": 1, "x": "2"}', "expected double in x, found '2'"),
        (b'{"id": "a", "at": 1, "n": 99999999999}', "99999999999"),
        (b'{"id": "a", "at": 99999999999999999999}', "99999999999999999999"),
        (b'{"id": "\xff", "at": 1}', "utf-8"),
        (b'{"id": "\\ud800", "at": 1}', "surrogates"),
        (b'{"id": ' + b"[" * 100_000, "recursion"),
        (b'{"id": "a", "at": 1, "x": 1, "x": 1000}', "expected each field once, found 'x' 2 times"),
    ],
)
def test_bad_json_costs_itself_only_and_says_why(value: bytes, says: str) -> None:
    good = b'{"id": "a", "at": 1}'
    decoded = JsonDecoder(SCHEMA).decode([good, value, good])
    assert decoded.rows.tolist() == [0, 2]
    assert [error.index for error in decoded.errors] == [1]
    assert decoded.errors[0].reason == "invalid_json"
    assert says in decoded.errors[0].detail


@pytest.mark.parametrize(
    ("number", "says"), [(1_704_067_200, "`seconds` (2024-01-01"), (1_704_067_200_000_000, "`microseconds`"), (20240115, "%Y%m%d")]
)
def test_an_event_time_that_is_hardly_milliseconds_is_refused_with_what_it_may_be(number: int, says: str) -> None:
    value = json.dumps({"id": "a", "at": number}).encode()
    (error,) = JsonDecoder(SCHEMA, event_time="at").decode([value]).errors
    assert error.reason == "implausible_event_time" and says in error.detail and error.detail.startswith("at: ")


def test_declared_times_are_read_as_they_are_declared() -> None:
    for declared, item in (("seconds", 1_704_067_200), ("%Y%m%d", "20240101"), ("%Y%m%d", 20240101), ("microseconds", 1_704_067_200_000_000)):
        decoded = JsonDecoder(SCHEMA, {"at": declared}, "at").decode([json.dumps({"id": "a", "at": item}).encode()])
        assert not decoded.errors and decoded.batch.column("at").view("int64").to_pylist() == [1_704_067_200_000]


@pytest.mark.parametrize(
    ("declared", "item", "micros"),
    [
        ("seconds", 1_704_067_200, 1_704_067_200_000_000), ("seconds", 1_704_067_200.5, 1_704_067_200_500_000),
        ("milliseconds", 1_704_067_200_001, 1_704_067_200_001_000), ("%Y%m%d", "20240101", 1_704_067_200_000_000),
        (None, 1_704_067_200_000_001, 1_704_067_200_000_001), (None, "2024-01-01T00:00:00.000001Z", 1_704_067_200_000_001),
    ],
)  # fmt: skip
def test_times_in_microseconds_are_declared_and_doubted_like_those_in_milliseconds(declared: str | None, item: object, micros: int) -> None:
    schema = SCHEMA.replace("timestamp-millis", "timestamp-micros")
    decoder = JsonDecoder(schema, {"at": declared} if declared else {}, "at")
    decoded = decoder.decode([json.dumps({"id": "a", "at": item}).encode()])
    assert not decoded.errors and decoded.batch.column("at").view("int64").to_pylist() == [micros]
    (error,) = JsonDecoder(schema, event_time="at").decode([b'{"id": "a", "at": 1704067200000}']).errors
    assert error.reason == "implausible_event_time" and "in microseconds is 1970" in error.detail and "`milliseconds` (2024-01-01" in error.detail


def test_a_declared_date_is_read_as_it_is_declared() -> None:
    decoded = JsonDecoder(SCHEMA, {"day": "%d.%m.%Y"}).decode([b'{"id": "a", "at": 1, "day": "15.01.2024"}', b'{"id": "a", "at": 1, "day": 19737}'])
    assert [str(day) for day in decoded.batch.column("day").to_pylist()] == ["2024-01-15"] and len(decoded.errors) == 1


def test_digits_as_text_are_no_time() -> None:
    (error,) = JsonDecoder(SCHEMA).decode([b'{"id": "a", "at": "20240115"}']).errors
    assert "found '20240115'" in error.detail


def test_avro_and_json_mix_in_one_topic_and_heartbeats_are_neither() -> None:
    registry = MemorySchemaRegistry()
    avro = RecordCodec(registry, "s", SCHEMA).encode({"id": "b", "at": 2, "x": None, "n": 1})
    values = [b'{"id": "a", "at": 1}', None, avro, avro + b"!", b"{", b"", header(77) + b"x", b'{"id": "c", "at": 3}']
    decoded = RawDecoder(registry, SCHEMA).decode(values)
    assert decoded.batch.column("id").to_pylist() == ["a", "b", "c"]
    assert decoded.rows.tolist() == [0, 2, 7]
    assert [(error.index, error.reason) for error in decoded.errors] == [
        (3, "trailing_bytes"),
        (4, "invalid_json"),
        (5, "not_framed"),
        (6, "unknown_schema_id"),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("before", ["", " ", "\r\n\t  "])
def test_json_may_begin_with_white_space_or_a_byte_order_mark(before: str, encoding: str) -> None:
    registry = MemorySchemaRegistry()
    avro = RecordCodec(registry, "s", SCHEMA).encode({"id": "b", "at": 2, "x": None, "n": 1})
    text = (before + '{"id": "ä", "at": 1}').encode(encoding)
    for values, ids in (([text], ["ä"]), ([avro, text, avro], ["b", "ä", "b"])):
        decoded = RawDecoder(registry, SCHEMA).decode(values)
        assert not decoded.errors
        assert decoded.batch.column("id").to_pylist() == ids


@pytest.mark.parametrize(
    ("value", "says"), [(b' [{"id": "a"}]', "expected a JSON object, found list"), (b"\xef\xbb\xbf{", "Expecting property name")]
)
def test_json_that_is_no_object_is_refused_as_json(value: bytes, says: str) -> None:
    (error,) = RawDecoder(MemorySchemaRegistry(), SCHEMA).decode([value]).errors
    assert error.reason == "invalid_json" and says in error.detail


def test_only_heartbeats_is_an_empty_batch() -> None:
    decoded = RawDecoder(MemorySchemaRegistry(), SCHEMA).decode([None, None])
    assert decoded.batch.num_rows == 0
    assert not decoded.errors


def test_field_sets_that_strangers_invent_leave_room_for_those_of_the_stream() -> None:
    decoder = JsonDecoder(SCHEMA)
    decoder.decode([b'{"id": "a", "at": 1500, "invented %d": 1}' % number for number in range(2_000)])
    writers = decoder.decode([b'{"id": "a", "at": 1500, "n": 1}']).writers
    assert writers is not None and decoder.names(int(writers[0])) == ("at", "id", "n")
