"""A record whose journal entry outgrows the journal's topic is one dead letter that fits; the whole of it lies in the lake, once."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from deltalake import DeltaTable

from services.ingestion.sizes import Quarantine, TopicSizes
from services.ingestion.task import IngestionTask
from shared.application.planning import load_plan
from shared.avro.records import RecordCodec
from shared.avro.registry import MemorySchemaRegistry
from shared.lake.tables import Lake
from shared.streaming.broker import TopicSpec
from shared.streaming.letter_size import fits, fitted
from shared.streaming.memory_broker import MemoryBroker
from shared.streaming.records import Records, Step, TopicPartition
from shared.streaming.task import StepContext

NOW, LIMIT = 1_760_000_000_000, 20_000
REJECTED = (Path(__file__).parents[4] / "schemas" / "rejected.avsc").read_text("utf-8")
SCHEMA = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "order_id", "type": "string"},
        {"name": "note", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ],
}
APPLICATION = """
app: shop
owner: shop@example.org
partition_by: order_id
streams:
  orders: {topic: orders, schema: order.avsc, event_id: order_id, event_time: at, derive: {twice: "note || note"}}
"""


class Bench:
    """Ingestion with topics that take 20,000 bytes, and a broker that refuses more."""

    def __init__(self, folder: Path, lake: bool = True) -> None:
        (folder / "order.avsc").write_text(json.dumps(SCHEMA))
        (folder / "app.yaml").write_text(APPLICATION)
        self.plan, self.registry, self.broker = load_plan(folder), MemorySchemaRegistry(), MemoryBroker()
        topics = self.plan.topics
        for topic in (topics.journal, topics.rejected, topics.duplicates, topics.late, topics.vectors):
            self.broker.create_topics([TopicSpec(topic, 1, {"max.message.bytes": str(LIMIT)})])
        quarantine = Quarantine(Lake(str(folder / "lake"), "shop").append, str(folder / "lake")) if lake else None
        sizes = TopicSizes(self.plan, self.broker)
        self.task = IngestionTask(self.plan, self.registry, 0, "live", sizes=sizes, quarantine=quarantine)

    def step(self, values: list[bytes], offset: int = 0, key: bytes = b"k") -> Step:
        n = len(values)
        records = Records("orders", 0, np.arange(offset, offset + n), np.full(n, NOW), [key] * n, values)
        step = self.task.process([records], StepContext(NOW, frozenset({TopicPartition("orders", 0)})))
        sink = self.broker.transactional_sink("t")
        sink.open()
        sink.begin()
        for emission in step.emissions:
            sink.produce(emission)
        sink.commit()
        return step

    def letters(self, step: Step) -> list[dict[str, object]]:
        codec = RecordCodec(self.registry, "r", REJECTED)
        return [codec.decode(v) for e in step.emissions if e.topic == self.plan.topics.rejected for v in e.values if v is not None]


def order(name: str, note: str) -> bytes:
    return json.dumps({"order_id": name, "note": note, "at": NOW}).encode()


def accepted(bench: Bench, step: Step) -> int:
    return sum(len(e) for e in step.emissions if e.topic == bench.plan.topics.journal)


@pytest.mark.parametrize("size", [8_000, 19_000, 300_000])
def test_an_entry_that_grows_past_the_limit_costs_itself_only(tmp_path: Path, size: int) -> None:
    bench = Bench(tmp_path)
    values = [order("a", "x"), order("big", "y" * size), order("b", "z" * 2_000)]
    step = bench.step(values, key=b"k" * 5_000)
    assert accepted(bench, step) == 2
    (letter,) = bench.letters(step)
    assert (letter["reason"], letter["source_offset"]) == ("too_large", 1)
    if size == 8_000:  # the raw record fits, its entry (note, and twice the note) does not
        return
    assert letter["value_bytes"] == len(values[1])
    assert letter["value_sha256"] == hashlib.sha256(values[1]).hexdigest()
    assert isinstance(letter["value"], bytes)
    assert values[1].startswith(letter["value"])
    assert len(letter["value"]) > 1_000
    # The same record read again, after an aborted transaction, is kept once.
    assert accepted(Bench(tmp_path), Bench(tmp_path).step(values)) == 2
    rows = DeltaTable(str(tmp_path / "lake" / "shop" / "quarantine")).to_pyarrow_table().to_pylist()
    assert [(row["source_topic"], row["source_offset"], row["value"]) for row in rows] == [("orders", 1, values[1])]


def test_a_long_text_where_a_number_belongs_is_a_letter_that_fits_also_without_a_lake(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lake=False)
    value = json.dumps({"order_id": "a", "note": "x", "at": "9" * 100_000}).encode()
    step = bench.step([value, order("b", "x")])
    assert accepted(bench, step) == 1
    (letter,) = bench.letters(step)
    assert letter["value_bytes"] == len(value)
    assert letter["quarantined_in"] is None
    assert "no lake" in str(letter["detail"])


@pytest.mark.parametrize("limit", [20_000, 1_048_588])
@pytest.mark.parametrize("size", [0, 10, 19_000, 1_040_000, 1_048_000, 3_000_000])
def test_a_letter_is_within_the_limit_whatever_it_is_about(limit: int, size: int) -> None:
    codec = RecordCodec(MemorySchemaRegistry(), "r", REJECTED)
    texts = {"stage": "ingestion", "reason": "undecodable", "detail": "ü" * 3_000, "source_topic": "t" * 249}
    numbers = {"source_partition": 2**31 - 1, "source_offset": 2**62, "source_timestamp": 2**62, "journal_time": 2**62}
    letter = {**texts, **numbers, "key": b"k" * (size // 3), "value": bytes(size)}
    cut = fitted(letter, limit)
    assert fits(letter, limit) == (cut is letter)
    assert len(codec.encode(cut)) + min(1_024, size // 3) + 512 <= limit
