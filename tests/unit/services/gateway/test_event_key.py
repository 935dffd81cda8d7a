"""The key that an event is published under is the one that ingestion finds in it, whatever its column's type."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidemill.services.gateway.entity_keys import EntityKeys
from tidemill.services.gateway.event_key import EventKey
from tidemill.services.ingestion.domain.cleaning import Cleaner
from tidemill.services.ingestion.domain.debezium import Unwrapper
from tidemill.services.ingestion.domain.raw import RawChunk
from tidemill.services.ingestion.raw_decoder import RawDecoder
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.key_text import key_texts
from tidemill.shared.avro.registry import MemorySchemaRegistry

APPLICATION = """app: shop
owner: me@example.org
partition_by: %s
streams:
  orders: {topic: shop-orders, schema: order.avsc, event_id: id, event_time: at%s}
%s"""
ENTITIES = "entities: {buyer: {from: {orders: buyer}}}\nviews: {bought: {entity: buyer, source: orders, aggregate: [count], windows: [1h]}}\n"
UUID = {"type": "string", "logicalType": "uuid"}
UPPER = "123E4567-E89B-12D3-A456-426614174000"


def plan_of(folder: Path, kind: Any, key: str = "buyer", derived: str = "", more: str = "") -> Plan:
    time = {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}
    fields = [{"name": "id", "type": "string"}, {"name": "buyer", "type": kind}, time]
    (folder / "order.avsc").write_text(json.dumps({"type": "record", "name": "Order", "fields": fields}))
    (folder / "app.yaml").write_text(APPLICATION % (key, derived, more))
    return load_plan(folder)


@pytest.mark.parametrize(
    ("kind", "value", "key"),
    [
        (UUID, UPPER, "buyer"),
        ({"type": "fixed", "name": "Id", "size": 16, "logicalType": "uuid"}, "\x12" * 16, ""),
        ({"type": "int", "logicalType": "date"}, "2024-01-15", "buyer"),
        ({"type": "int", "logicalType": "date"}, 19737, "buyer"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, 1.5, "buyer"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, "1.50", "buyer"),
        ({"type": "record", "name": "Buyer", "fields": [{"name": "id", "type": "string"}]}, {"id": "b"}, "buyer.id"),
    ],
)
def test_ingestion_finds_the_key_that_the_gateway_has_written(tmp_path: Path, kind: Any, value: Any, key: str) -> None:
    stream = plan_of(tmp_path, kind, key or "buyer").streams["orders"]
    event = json.dumps({"id": "1", "buyer": value, "at": 1_705_312_800_000}).encode()
    decoded = RawDecoder(MemorySchemaRegistry(), stream.user_schema).decode([event])
    if not key:
        assert decoded.errors
        with pytest.raises(ValueError, match="expected a uuid such as"):
            EventKey(stream).of(event)
    else:
        assert key_texts(decoded.batch.column(key)).to_pylist() == [EventKey(stream).of(event).decode()]


def test_an_entity_of_uuids_is_found_however_its_name_is_written(tmp_path: Path) -> None:
    assert EntityKeys(plan_of(tmp_path, UUID, more=ENTITIES)).written("buyer", UPPER) == UPPER.lower()


@pytest.mark.parametrize(
    ("kind", "buyer", "derived"),
    [
        ("string", "é\ud83d\ude00", 'half: "buyer || id"'),
        ("string", "b", 'first: "UPPER(buyer)", half: "CONCAT(first, \'-\', EXTRACT(year FROM at))"'),
        ("double", 3.0, 'half: "buyer * 2"'),
        (["null", "double"], float("inf"), 'half: "COALESCE(buyer, -0.5)"'),
        (UUID, UPPER, 'half: "SUBSTR(buyer, 1, 8)"'),
        ("boolean", True, 'half: "NOT buyer"'),
    ],
)
def test_a_key_that_ingestion_derives_is_computed_as_ingestion_does(tmp_path: Path, kind: Any, buyer: Any, derived: str) -> None:
    plan = plan_of(tmp_path, kind, "half", f", derive: {{{derived}}}")
    stream = plan.streams["orders"]
    event = json.dumps({"id": "1", "buyer": buyer, "at": 1_705_312_800_000}).replace("Infinity", "1e999").encode()
    decoded = RawDecoder(MemorySchemaRegistry(), stream.user_schema).decode([event])
    nothing = np.zeros(1, np.bool_)
    chunk = RawChunk(0, np.zeros(1, np.int64), np.zeros(1, np.int64), nothing, [None], [event], decoded)
    cleaned = Cleaner(stream, 0, 1).clean(chunk)
    assert not cleaned.verdicts
    assert cleaned.columns.column("_key").to_pylist() == [EventKey(stream).of(event).decode()]


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"id": "1", "at": 1_705_312_800_000}, "from which the partition key half follows: .*buyer"),
        ({"id": "1", "buyer": "b", "at": 1_705_312_800_000, "colour": 1}, "from which the partition key half follows: .*colour"),
        ({"id": "1", "buyer": "no number", "at": 1_705_312_800_000}, "gives none for this event"),
    ],
)
def test_an_event_without_a_derived_key_is_refused_with_what_is_wrong_with_it(tmp_path: Path, event: dict[str, Any], words: str) -> None:
    stream = plan_of(tmp_path, "string", "half", ', derive: {half: "TRY_CAST(buyer AS BIGINT) * 2"}').streams["orders"]
    with pytest.raises(ValueError, match=words):
        EventKey(stream).of(json.dumps(event).encode())


DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
SOURCE = {"ts_ms": 1_705_312_800_000, "lsn": 7}


@pytest.mark.parametrize(
    "change",
    [
        {"op": "c", "ts_ms": 1, "source": SOURCE, "after": {"buyer": "b", "sum": 1.5}},
        {"op": "u", "ts_ms": 1, "source": SOURCE, "before": {"buyer": "a", "sum": 1}, "after": {"buyer": "b", "sum": "AJY="}},
        {"op": "d", "ts_ms": 1, "source": SOURCE, "before": {"buyer": "é", "sum": 2}, "after": None},
        {"schema": None, "payload": {"op": "r", "ts_ms": 1, "source": SOURCE, "after": {"buyer": "b", "sum": 1}}},
    ],
)
def test_a_key_that_is_derived_of_a_change_is_computed_as_ingestion_does(tmp_path: Path, change: dict[str, Any]) -> None:
    fields = [{"name": "buyer", "type": "string"}, {"name": "sum", "type": DECIMAL}]
    (tmp_path / "order.avsc").write_text(json.dumps({"type": "record", "name": "Order", "fields": fields}))
    told = "envelope: debezium, primary_key: buyer, deletes: event, decimals: base64"
    streams = f"streams: {{orders: {{topic: o, schema: order.avsc, {told}, derive: {{half: \"buyer || '-' || CAST(sum AS TEXT)\"}}}}}}\n"
    (tmp_path / "app.yaml").write_text(f"app: shop\nowner: me@example.org\npartition_by: half\n{streams}")
    stream = load_plan(tmp_path).streams["orders"]
    assert stream.envelope is not None
    value, nothing = json.dumps(change).encode(), np.zeros(1, np.bool_)
    decoded = RawDecoder(MemorySchemaRegistry(), stream.user_schema, stream.times, stream.event_time, stream.envelope).decode([value])
    rows = Unwrapper(stream, stream.envelope).unwrap(decoded, nothing)
    chunk = RawChunk(0, np.zeros(1, np.int64), np.zeros(1, np.int64), nothing, [None], [value], rows.decoded)
    cleaned = Cleaner(stream, 0, 1).clean(chunk)
    assert not cleaned.verdicts, cleaned.verdicts
    assert cleaned.columns.column("_key").to_pylist() == [EventKey(stream).of(value).decode()]


def test_a_change_from_which_no_key_follows_is_refused_with_what_is_wrong_with_it(tmp_path: Path) -> None:
    (tmp_path / "order.avsc").write_text(json.dumps({"type": "record", "name": "Order", "fields": [{"name": "buyer", "type": "string"}]}))
    streams = 'streams: {orders: {topic: o, schema: order.avsc, envelope: debezium, primary_key: buyer, derive: {half: "buyer || buyer"}}}\n'
    (tmp_path / "app.yaml").write_text(f"app: shop\nowner: me@example.org\npartition_by: half\n{streams}")
    key = EventKey(load_plan(tmp_path).streams["orders"])
    refused = [
        (b'{"op": "c", "after": null}', "gives none"),
        (b'{"op": "c", "after": {"buyer": 1}}', "half follows: .*buyer"),
        (b"[]", "half follows"),
    ]
    for change, words in refused:
        with pytest.raises(ValueError, match=words):
            key.of(change)


def test_a_decimal_of_debezium_as_text_is_no_key_since_it_may_be_base64(tmp_path: Path) -> None:
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
    (tmp_path / "order.avsc").write_text(json.dumps({"type": "record", "name": "Order", "fields": [{"name": "buyer", "type": decimal}]}))
    streams = "streams: {orders: {topic: o, schema: order.avsc, envelope: debezium, primary_key: buyer}}\n"
    (tmp_path / "app.yaml").write_text(f"app: shop\nowner: me@example.org\npartition_by: buyer\n{streams}")
    key = EventKey(load_plan(tmp_path).streams["orders"])
    assert key.of(b'{"op": "c", "after": {"buyer": 1.5}}') == b"1.50"
    with pytest.raises(ValueError, match="expected a number, got a text, which may be base64"):
        key.of(b'{"op": "c", "after": {"buyer": "1234"}}')
