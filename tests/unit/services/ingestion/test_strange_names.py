"""Names that no record can hold: they cost the record that has them, and neither the step nor what is told of its day."""

import json
from pathlib import Path

import numpy as np

from tidemill.services.ingestion.task import IngestionTask
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.task import StepContext

NOW, DAY = 1_760_000_000_000, 86_400_000
APPLICATION = "app: shop\nowner: me@example.org\npartition_by: id\nstreams: {orders: {topic: o, schema: order.avsc, event_id: id, event_time: at}}\n"
TIME = {"type": "long", "logicalType": "timestamp-millis"}


def test_a_field_named_by_half_a_pair_of_surrogates_is_told_of_at_the_end_of_its_day(tmp_path: Path) -> None:
    fields = [{"name": "id", "type": "string"}, {"name": "at", "type": TIME}]
    (tmp_path / "order.avsc").write_text(json.dumps({"type": "record", "name": "Order", "fields": fields}))
    (tmp_path / "app.yaml").write_text(APPLICATION)
    plan, registry = load_plan(tmp_path), MemorySchemaRegistry()
    task, read, changes = IngestionTask(plan, registry, 0, "live"), 0, []
    strange = {"id": "x", "at": NOW + DAY, "\ud800": 1}
    for day, events in enumerate(([{"id": f"a{i}", "at": NOW} for i in range(120)], [strange], [{"id": "c", "at": NOW + 2 * DAY}])):
        now, n = NOW + day * DAY, len(events)
        values = [json.dumps(event).encode() for event in events]
        records = Records("o", 0, np.arange(read, read + n), np.full(n, now), [b"k"] * n, values)
        step = task.process([records], StepContext(now, frozenset({TopicPartition("o", 0)})))
        read += n
        changes += [value for emission in step.emissions if emission.topic == plan.topics.schema_changes for value in emission.values]
    codec = message_codec(registry, plan.topics.schema_changes, "schema-change")
    assert [[one["field"] for one in codec.decode(value or b"")["changes"]] for value in changes] == [["\ufffd"]]
