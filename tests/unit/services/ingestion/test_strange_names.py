"""Names that no record can hold: they cost the record that has them, and neither the step nor what is told of its day."""

import json
from pathlib import Path

import numpy as np
import pytest

from tidemill.services.ingestion.task import IngestionTask
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.avro.wire import header
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.task import StepContext

NOW, DAY = 1_760_000_000_000, 86_400_000
APPLICATION = "app: shop\nowner: me@example.org\npartition_by: id\nstreams: {orders: {topic: o, schema: order.avsc, event_id: id, event_time: at}}\n"
TIME = {"type": "long", "logicalType": "timestamp-millis"}


def told(folder: Path, registry: MemorySchemaRegistry, strange: bytes) -> list[bytes]:
    """Return what is told of the writers of a stream one of whose records is strange, on the day after its first."""
    fields = [{"name": "id", "type": "string"}, {"name": "at", "type": TIME}]
    (folder / "order.avsc").write_text(json.dumps({"type": "record", "name": "Order", "fields": fields}))
    (folder / "app.yaml").write_text(APPLICATION)
    plan = load_plan(folder)
    codec = RecordCodec(registry, "o", plan.streams["orders"].user_schema)
    task, read, changes = IngestionTask(plan, registry, 0, "live"), 0, []
    usual = [json.dumps({"id": f"a{i}", "at": NOW}).encode() for i in range(120)] + [codec.encode({"id": "avro", "at": NOW})]
    for day, values in enumerate((usual, [strange], [json.dumps({"id": "c", "at": NOW + 2 * DAY}).encode()])):
        now, n = NOW + day * DAY, len(values)
        records = Records("o", 0, np.arange(read, read + n), np.full(n, now), [b"k"] * n, values)
        step = task.process([records], StepContext(now, frozenset({TopicPartition("o", 0)})))
        read += n
        changes += [value or b"" for emission in step.emissions if emission.topic == plan.topics.schema_changes for value in emission.values]
    return changes


def fields_of(registry: MemorySchemaRegistry, change: bytes) -> list[str]:
    return [one["field"] for one in message_codec(registry, "c", "schema-change").decode(change)["changes"]]


def test_a_field_named_by_half_a_pair_of_surrogates_is_told_of_at_the_end_of_its_day(tmp_path: Path) -> None:
    registry = MemorySchemaRegistry()
    (change,) = told(tmp_path, registry, json.dumps({"id": "x", "at": NOW + DAY, "\ud800": 1}).encode())
    assert fields_of(registry, change) == ["\ufffd"]


@pytest.mark.parametrize(("letter", "letters", "symbols"), [("x", 3_000, 150), ("\U0001f600", 500, 1), ("\ud800", 500, 1)])
def test_a_writer_that_names_hundreds_of_fields_at_length_is_told_in_one_record(tmp_path: Path, letter: str, letters: int, symbols: int) -> None:
    """Anybody may register a schema, and one record names it: what is told of it must fit its topic, or nothing more is."""
    registry = MemorySchemaRegistry()
    kinds = [{"type": "enum", "name": f"E{i}", "symbols": [f"{letter * symbols}{k}" for k in range(20)]} for i in range(500)]
    fields = [{"name": f"{letter * letters}{i}", "type": kind} for i, kind in enumerate(kinds)]
    known = registry.register("o", json.dumps({"type": "record", "name": "Order", "fields": fields}))
    (change,) = told(tmp_path, registry, header(known) + b"junk")
    assert len(fields_of(registry, change)) == 502 and len(change) < 700_000
