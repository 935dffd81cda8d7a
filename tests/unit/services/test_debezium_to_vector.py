"""Changes of two tables go from their raw topics through ingestion and features to vectors: live, on a broker in memory, and from files."""

import json
from pathlib import Path
from typing import Any

import pytest

from tidemill.replay.feed import feeds_of
from tidemill.replay.file_rows import DataSetError
from tidemill.services.cli.dataset import DataSetOptions, load_data_set
from tidemill.services.features.task import FeaturesTask
from tidemill.services.features.task import task_inputs as features_inputs
from tidemill.services.gateway.event_key import EventKey
from tidemill.services.ingestion.task import IngestionTask
from tidemill.services.ingestion.task import task_inputs as ingestion_inputs
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.heartbeat import HEARTBEAT_KEY
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.observability.settings import RunnerSettings, ServiceSettings
from tidemill.shared.runner.task import Stage
from tidemill.shared.service.stage import chain_runner

T0 = 1_700_000_000_000
REJECTED = (Path(__file__).parents[3] / "schemas" / "rejected.avsc").read_text("utf-8")
STREAMS = """
app: shop
owner: shop@example.org
partition_by: order_id
streams:
  orders: {topic: orders, schema: order.avsc, envelope: debezium, primary_key: order_id, event_id: order_id, updates: skip}
  customers: {topic: customers, schema: customer.avsc, envelope: debezium, kind: reference, key: customer_id, max_age: 9d}
  returns: {topic: returns, schema: return.avsc, event_id: order_id, event_time: at}
entities:
  customer: {from: {orders: customer_id}}
views:
  spent: {entity: customer, source: orders, value: amount, aggregate: [sum], windows: [1h]}
models:
  returned:
    ask: orders
    features: [amount, customers.*, spent.*, debezium.op]
    label: {stream: returns, join: order_id, value: "1", max_delay: 1d}
    fallback: {default: 0.1}
"""
SCHEMAS: dict[str, list[tuple[str, Any]]] = {
    "order": [("order_id", "int"), ("customer_id", "int"), ("amount", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2})],
    "customer": [("customer_id", "int"), ("tier", "string")],
    "return": [("order_id", "int"), ("at", {"type": "long", "logicalType": "timestamp-millis"})],
}


def application(folder: Path) -> Path:
    for name, fields in SCHEMAS.items():
        declared = {"type": "record", "name": name.capitalize(), "fields": [{"name": one, "type": kind} for one, kind in fields]}
        (folder / f"{name}.avsc").write_text(json.dumps(declared))
    (folder / "app.yaml").write_text(STREAMS)
    return folder


def change(op: str, at: int, before: dict[str, Any] | None = None, after: dict[str, Any] | None = None) -> bytes:
    source = {"connector": "postgresql", "ts_ms": T0 + at, "lsn": 1_000 + at, "snapshot": "false", "table": "t"}
    return json.dumps({"before": before, "after": after, "source": source, "op": op, "ts_ms": T0 + at + 500, "transaction": None}).encode()


def order(number: int, at: int, amount: str) -> bytes:
    return change("c", at, None, {"order_id": number, "customer_id": 7, "amount": amount, "note": "not in the schema"})


# The second order comes while the customer is gold, the third after it is deleted.
ORDERS = [
    order(1, 1_000, "10.50"), change("u", 2_000, None, {"order_id": 1, "customer_id": 7, "amount": "99.00"}), order(2, 4_000, "20.25"),
    change("d", 4_500, {"order_id": 1}), None, order(3, 8_000, "1.00"),
]  # fmt: skip
CUSTOMERS = [
    change("r", 0, None, {"customer_id": 7, "tier": "silver"}), change("u", 3_000, None, {"customer_id": 7, "tier": "gold"}),
    change("d", 5_000, {"customer_id": 7}), None, change("t", 9_000),
]  # fmt: skip
VECTORS = [(10.5, "silver", 10.5, "c"), (20.25, "gold", 30.75, "c"), (1.0, None, 31.75, "c")]


def times(messages: list[bytes | None]) -> list[int]:
    """When the database made each change; a tombstone follows its deletion."""
    made: list[int] = []
    for message in messages:
        made.append(made[-1] if message is None else json.loads(message)["source"]["ts_ms"])
    return made


@pytest.mark.parametrize("from_files", [False, True])
def test_changes_of_tables_become_vectors(tmp_path: Path, from_files: bool) -> None:
    plan = load_plan(application(tmp_path))
    broker, registry = MemoryBroker(), MemorySchemaRegistry()
    broker.create_topics([*catalogue_topics("shop", 1), *(TopicSpec(topic) for topic in plan.topics.raw)])
    sink = broker.sink()
    if from_files:
        data = tmp_path / "data"
        data.mkdir()
        for name, messages in (("orders", ORDERS), ("customers", CUSTOMERS)):
            (data / f"{name}.jsonl").write_bytes(b"\n".join(message or b"null" for message in messages))
        published = {feed.topic: feed for feed in feeds_of(plan, registry, load_data_set(plan, str(data), DataSetOptions()))}
        for topic, feed in published.items():
            keys, lines = feed.records(0, len(feed.available_ms))
            for key, value, at in zip(keys, lines, feed.available_ms.tolist(), strict=True):
                sink.publish(topic, key, value, at, 0)
        assert [list(feed.records(0, len(feed.available_ms))[1]) for feed in published.values()] == [ORDERS, CUSTOMERS]
    else:
        for topic, messages in (("orders", ORDERS), ("customers", CUSTOMERS)):
            for message, at in zip(messages, times(messages), strict=True):
                sink.publish(topic, b'{"id": 7}', message, at, 0)
    for topic in plan.topics.raw:
        sink.publish(topic, HEARTBEAT_KEY, None, T0 + 60_000, 0)
    stages = [
        Stage("ingestion", ingestion_inputs(plan), lambda p: IngestionTask(plan, registry, p, "replay")),
        Stage("features", features_inputs(plan), lambda p: FeaturesTask(plan, registry, p)),
    ]
    quick = RunnerSettings(commit_interval_ms=1, idle_interval_ms=1, max_batch=2, state_folder=tmp_path / "state")
    runner = chain_runner(stages, plan, ServiceSettings(application=tmp_path, runner=quick), broker, registry)

    def values(topic: str) -> list[bytes | None]:
        log = broker.log(TopicPartition(topic, 0))
        return list(log.read(0, log.end, 10**9)[0].values)

    for _ in range(2_000):
        runner.step()
        if len(values(plan.topics.vectors)) == len(VECTORS) and len(values(plan.topics.rejected)) == 1:
            break
    rows = ColumnDecoder(registry, plan.vector_schema).decode(values(plan.topics.vectors)).batch.to_pylist()
    assert [tuple(row[name] for name in ("amount", "customers__tier", "spent__sum_1h", "debezium__op")) for row in rows] == VECTORS
    assert [row["_request_id"] for row in rows] == ["1", "2", "3"]
    assert {name for name in rows[0] if not name.startswith("_")} == {"amount", "customers__tier", "spent__sum_1h", "debezium__op"}
    (letter,) = [RecordCodec(registry, "r", REJECTED).decode(value or b"") for value in values(plan.topics.rejected)]
    assert (letter["reason"], letter["source_topic"], letter["source_offset"]) == ("truncate", "customers", 4)


def test_a_file_that_is_no_topic_of_debezium_is_refused_with_its_line(tmp_path: Path) -> None:
    plan = load_plan(application(tmp_path))
    for name, content, says in (
        ("orders.csv", b"order_id,customer_id,amount\n1,7,2\n", "expected JSON lines, one Debezium message each"),
        ("orders.jsonl", order(1, 0, "1.00") + b'\n{"order_id": 1}\n', r"orders.jsonl:2: .*expected a value in op"),
        ("orders.jsonl", order(1, 0, "dear!"), r"orders.jsonl:1: .*amount"),
    ):
        data = tmp_path / name / "data"
        data.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(content)
        with pytest.raises(DataSetError, match=says):
            load_data_set(plan, str(data), DataSetOptions())


def test_the_gateway_places_a_message_by_its_row(tmp_path: Path) -> None:
    plan = load_plan(application(tmp_path))
    deleted = change("d", 0, {"customer_id": 8, "tier": "gold"})
    wrapped = json.dumps({"schema": None, "payload": json.loads(order(5, 0, "1.00"))}).encode()
    assert [EventKey(plan.streams["customers"]).of(deleted), EventKey(plan.streams["orders"]).of(wrapped)] == [b"8", b"5"]
    with pytest.raises(ValueError, match="expected the partition key order_id"):
        EventKey(plan.streams["orders"]).of(b'{"order_id": 5}')
