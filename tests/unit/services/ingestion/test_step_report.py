"""The log names the records that ingestion refuses or doubts, and a flood of them costs a line at each doubling."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from tidemill.services.ingestion.task import IngestionTask
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.records import Records
from tidemill.shared.log.topics import CATALOGUE
from tidemill.shared.runner.task import StepContext

SECONDS = 1_704_067_200
APPLICATION = """app: shop
owner: me@example.org
partition_by: id
streams:
  orders: {topic: shop-orders, schema: order.avsc, event_id: id, event_time: at, allowed_lateness: 36500d}
"""
SCHEMA = {
    "type": "record",
    "name": "Order",
    "fields": [{"name": "id", "type": "string"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}],
}


@pytest.fixture
def task(tmp_path: Path) -> IngestionTask:
    (tmp_path / "app.yaml").write_text(APPLICATION)
    (tmp_path / "order.avsc").write_text(json.dumps(SCHEMA))
    assert CATALOGUE.exists()
    return IngestionTask(load_plan(tmp_path), MemorySchemaRegistry(), 0, "live")


def records(first: int, *values: bytes) -> list[Records]:
    n = len(values)
    return [Records("shop-orders", 0, np.arange(first, first + n), np.full(n, SECONDS * 1_000), [b"k"] * n, list(values))]


def test_rejections_are_named_with_their_place_at_each_doubling(task: IngestionTask, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for first in range(0, 40, 10):
            task.process(records(first, *([b'{"id": 5}'] * 10)), StepContext(SECONDS * 1_000))
    said = [vars(record) for record in caplog.records if record.message == "rejected"]
    assert [record["rejected_so_far"] for record in said] == [1, 2, 4, 8, 16, 32]
    assert [record["offset"] for record in said] == [0, 1, 3, 7, 15, 31]
    assert {(record["topic"], record["partition"], record["reason"]) for record in said} == {("shop-orders", 0, "invalid_json")}
    assert "expected string in id, found 5" in said[0]["detail"]


def test_seconds_in_avro_are_accepted_and_said(task: IngestionTask, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    registry = MemorySchemaRegistry()
    task = IngestionTask(load_plan(tmp_path), registry, 0, "live")
    codec = RecordCodec(registry, "shop-orders-Order", json.dumps(SCHEMA))
    good, bad = codec.encode({"id": "a", "at": SECONDS * 1_000}), codec.encode({"id": "b", "at": SECONDS})
    with caplog.at_level(logging.WARNING):
        step = task.process(records(7, good, bad), StepContext(SECONDS * 1_000))
    (said,) = [vars(record) for record in caplog.records if record.message == "doubtful event time"]
    assert (said["topic"], said["offset"], said["records_so_far"]) == ("shop-orders", 8, 1)
    assert "at is 1704067200, in milliseconds 1970-01-20T17:21:07.200Z" in said["found"]
    assert sum(len(emission) for emission in step.emissions if emission.topic == "shop-journal") == 2
