"""A stream that is declared so stands still when most of it is refused, alone, through restarts, until a signed command; the journal says where."""

import io
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import fastavro
import pytest

from services.ingestion.service import build
from services.ingestion.settings import ClockSettings, IngestionSettings
from shared.application.planning import load_plan
from shared.avro.journal import TICK, JournalDecoder
from shared.avro.records import RecordCodec
from shared.avro.registry import MemorySchemaRegistry
from shared.commands.signing import RESUME_STREAM, signed_command
from shared.observability.health import Health
from shared.observability.metrics import Metrics
from shared.observability.settings import CommandsSettings, LakeSettings, RunnerSettings
from shared.streaming.broker import TopicSpec
from shared.streaming.memory_broker import MemoryBroker
from shared.streaming.records import TopicPartition
from shared.streaming.runner import Runner
from shared.streaming.topics import catalogue_topics

KEY = b"sixteen bytes at least"
SCHEMAS = Path(__file__).parents[4] / "schemas"
ORDER = {
    "type": "record",
    "name": "Order",
    "fields": [{"name": "id", "type": "string"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}],
}
APPLICATION = """app: shop
owner: me@example.org
partition_by: id
streams:
  orders: {topic: shop-orders, schema: order.avsc, event_id: id, event_time: at, on_flood: ORDERS}
  parcels: {topic: shop-parcels, schema: order.avsc, event_id: id, event_time: at}
  prices: {topic: shop-prices, schema: order.avsc, key: id, event_time: at, kind: reference, max_age: 1d, on_flood: pause}
"""


class Shop:
    """Ingestion on the broker in memory; a flood is more than half of the last 100 records."""

    def __init__(self, folder: Path, on_flood: str = "pause") -> None:
        self.folder = folder
        self.declare(on_flood)
        self.broker, self.registry = MemoryBroker(), MemorySchemaRegistry()
        self.plan = load_plan(folder)
        self.broker.create_topics([*catalogue_topics("shop", 1), *(TopicSpec(topic, 1) for topic in self.plan.topics.raw)])
        self.command = RecordCodec(self.registry, "c", (SCHEMAS / "command.avsc").read_text("utf-8"))
        self.sink = self.broker.sink()
        self.number = 0
        self.sent: Counter[str] = Counter()
        self.start()

    def declare(self, on_flood: str) -> None:
        (self.folder / "order.avsc").write_text(json.dumps(ORDER))
        (self.folder / "app.yaml").write_text(APPLICATION.replace("ORDERS", on_flood))

    def start(self) -> None:
        """Start anew, in a process that knows nothing."""
        runner = RunnerSettings(
            commit_interval_ms=1, idle_interval_ms=1, checkpoint_interval_ms=0, dead_letter_window=100, state_folder=self.folder / "state"
        )
        commands, lake = CommandsSettings.model_validate({"key": KEY.decode()}), LakeSettings(uri=str(self.folder / "lake"))
        settings = IngestionSettings(application=self.folder, runner=runner, commands=commands, lake=lake, ingestion=ClockSettings(tick_ms=1))
        self.health, self.metrics = Health(), Metrics("ingestion")
        self.runner: Runner = build(settings, self.broker, self.registry, self.metrics, self.health)

    def publish(self, stream: str, count: int, good: bool = True) -> list[str]:
        names = [f"{stream}-{self.number + i}" for i in range(count)]
        self.number += count
        for name in names:
            value = {"id": name, "at": time.time_ns() // 1_000_000} if good else {}
            self.sink.publish(f"shop-{stream}", name.encode(), json.dumps(value).encode())
        self.sent[stream] += count
        return names if good else []

    def say(self, stream: str, key: bytes = KEY, command: str = RESUME_STREAM, record: dict[str, Any] | None = None) -> dict[str, Any]:
        said = record or signed_command(key, stream, command, "the producer is mended")
        self.sink.publish("shop-commands", stream.encode(), self.command.encode(said))
        return said

    def run(self) -> None:
        """Make steps until nothing is left to do."""
        after = 0
        for _ in range(500):
            self.runner.step()
            if self.runner.tasks:
                progress = self.runner.tasks[0].progress
                places = [TopicPartition(topic, 0) for topic in (*self.plan.topics.raw, "shop-commands") if topic not in progress.paused]
                after += all(progress.input_offsets.get(place, 0) >= self.broker.log(place).end for place in places)
            if after > 3:
                return
        raise AssertionError("there is no end to it")

    @property
    def paused(self) -> frozenset[str]:
        return self.runner.tasks[0].progress.paused

    def journal(self) -> list[tuple[str, str | None]]:
        """Return (stream, id) of the entries in order, and (paused or resumed, stream) of the marks, decoded with fastavro."""
        found: list[tuple[str, str | None]] = []
        for value in self.values("shop-journal"):
            schema = json.loads(self.registry.schema(int.from_bytes(value[1:5], "big")))
            entry: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), fastavro.parse_schema(schema), None)
            if schema["name"] != "Tick":
                found.append((entry["_event_id"].split("-")[0], entry["_event_id"]))
            elif entry["_paused"] or entry["_resumed"]:
                found.append(("paused", entry["_paused"]) if entry["_paused"] else ("resumed", entry["_resumed"]))
        return found

    def values(self, topic: str) -> list[bytes]:
        log = self.broker.log(TopicPartition(topic, 0))
        records, _ = log.read(0, log.end, log.end)
        return [value for value in records.values if value is not None]

    def entries(self, stream: str) -> list[str | None]:
        return [name for kind, name in self.journal() if kind == stream]


def flooded(folder: Path) -> tuple[Shop, list[str]]:
    """Return a shop whose orders are paused, and the ids of good orders that wait."""
    shop = Shop(folder)
    shop.publish("orders", 20)
    shop.publish("parcels", 5)
    shop.run()
    shop.publish("orders", 150, good=False)
    shop.run()
    assert shop.paused == {"shop-orders"}
    return shop, shop.publish("orders", 30)


def test_a_flood_pauses_its_stream_alone_until_a_signed_command(tmp_path: Path) -> None:
    shop, waiting = flooded(tmp_path)
    parcels = shop.publish("parcels", 40)
    shop.run()
    assert shop.entries("parcels")[-40:] == parcels and len(shop.entries("orders")) == 20
    assert "paused" in shop.health.troubles["shop-orders in partition 0"] and "tidemill resume" in shop.health.troubles["shop-orders in partition 0"]
    assert shop.metrics.registry.get_sample_value("tidemill_paused", {"stage": "ingestion", "partition": "0", "topic": "shop-orders"}) == 1
    # Whoever has no key, or means a model, resumes nothing.
    shop.say("orders", key=b"another key of sixteen bytes")
    shop.say("orders", command="resume")
    shop.say("parcels")
    shop.run()
    assert shop.paused == {"shop-orders"}
    shop.say("orders")
    shop.run()
    assert not shop.paused and not shop.health.troubles
    assert shop.entries("orders")[20:] == waiting
    assert shop.metrics.registry.get_sample_value("tidemill_paused", {"stage": "ingestion", "partition": "0", "topic": "shop-orders"}) == 0
    # The journal says where: nothing of the stream stands between the marks, whatever was published when.
    journal = shop.journal()
    begin, end = journal.index(("paused", "orders")), journal.index(("resumed", "orders"))
    assert {kind for kind, _ in journal[begin + 1 : end]} == {"parcels"} and [name for kind, name in journal[end:] if kind == "orders"] == waiting
    assert len(shop.values("shop-rejected")) == 150 and len(journal) - 2 + 150 == sum(shop.sent.values())


def test_to_the_stages_behind_a_mark_is_a_tick(tmp_path: Path) -> None:
    shop, _ = flooded(tmp_path)
    shop.say("orders")
    shop.run()
    log = shop.broker.log(TopicPartition("shop-journal", 0))
    batch = JournalDecoder(shop.plan, shop.registry).decode(log.read(0, log.end, log.end)[0])
    ticks = batch.stream_index == TICK
    assert ticks.sum() >= 2 and (batch.journal_time_ms[1:] >= batch.journal_time_ms[:-1]).all()


def test_a_pause_and_its_counts_survive_restarts_and_count_what_is_committed(tmp_path: Path) -> None:
    shop, waiting = flooded(tmp_path)
    for _ in range(3):
        shop.runner.close()
        shop.start()
        shop.run()
        assert shop.paused == {"shop-orders"} and "paused" in shop.health.troubles["shop-orders in partition 0"]
    shop.publish("parcels", 1, good=False)
    shop.run()
    flows = shop.runner.tasks[0].progress.flows
    assert {topic: dict(flow.rejected) for topic, flow in flows.items()} == {
        "shop-orders": {"invalid_json": 150},
        "shop-parcels": {"invalid_json": 1},
    }
    labels = {"stage": "ingestion", "partition": "0", "topic": "shop-orders", "reason": "invalid_json"}
    assert shop.metrics.registry.get_sample_value("tidemill_rejected", labels) == 150
    shop.runner.close()
    # Said while nobody runs: followed at the next start.
    shop.say("orders")
    shop.start()
    shop.run()
    assert not shop.paused and shop.entries("orders")[20:] == waiting
    assert Counter(name for _, name in shop.journal()).most_common(1)[0][1] <= 2


def test_the_same_command_sent_again_resumes_nothing(tmp_path: Path) -> None:
    shop, _ = flooded(tmp_path)
    said = shop.say("orders")
    shop.run()
    assert not shop.paused
    shop.publish("orders", 150, good=False)
    shop.run()
    assert shop.paused == {"shop-orders"}
    shop.say("orders", record=said)
    shop.run()
    assert shop.paused == {"shop-orders"}
    shop.say("orders")
    shop.run()
    assert not shop.paused and [kind for kind, name in shop.journal() if name == "orders"] == ["paused", "resumed", "paused", "resumed"]


def test_what_was_read_and_waited_in_the_merge_waits_on(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.publish("orders", 300, good=False)
    good = shop.publish("orders", 300)
    parcels = shop.publish("parcels", 10)
    shop.run()
    # Junk and good records came in one batch: what lies behind the pause is decided by the step, and the mark says it.
    journal = shop.journal()
    assert [name for kind, name in journal if kind == "parcels"] == parcels
    before = [name for kind, name in journal if kind == "orders"]
    assert before == good[: len(before)]
    if shop.paused:
        shop.say("orders")
        shop.run()
    assert [name for kind, name in shop.journal() if kind == "orders"] == good


def test_reference_rows_are_paused_as_events_are(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.publish("prices", 150, good=False)
    shop.run()
    assert shop.paused == {"shop-prices"}
    rows, orders = shop.publish("prices", 3), shop.publish("orders", 3)
    shop.run()
    assert shop.entries("orders") == orders and not shop.entries("prices")
    shop.runner.close()
    shop.start()
    shop.say("prices")
    shop.run()
    assert [name for kind, name in shop.journal() if kind == "prices"] == rows


@pytest.mark.parametrize("when", ["before", "while paused"])
def test_a_stream_that_is_throttled_by_declaration_goes_on(tmp_path: Path, when: str) -> None:
    if when == "before":
        shop = Shop(tmp_path, "throttle")
        waiting: list[str] = []
        shop.publish("orders", 150, good=False)
        shop.run()
        assert not shop.paused and "throttled" in shop.health.troubles["shop-orders in partition 0"]
    else:
        shop, waiting = flooded(tmp_path)
        shop.runner.close()
        shop.declare("throttle")
        shop.start()
    more = shop.publish("orders", 10)
    shop.run()
    assert not shop.paused and shop.entries("orders")[-10 - len(waiting) :] == [*waiting, *more]
