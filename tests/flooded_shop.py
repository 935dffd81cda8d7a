"""A small shop whose streams can be flooded with junk: ingestion on the broker in memory."""

import io
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import fastavro

from tidemill.services.ingestion.service import build
from tidemill.services.ingestion.settings import ClockSettings, IngestionSettings
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.commands.signing import RESUME_STREAM, signed_command
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.observability.settings import CommandsSettings, LakeSettings, RunnerSettings
from tidemill.shared.runner.runner import Runner

KEY = b"sixteen bytes at least"
SCHEMAS = Path(__file__).parents[1] / "schemas"
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
"""
PRICES = "  prices: {topic: shop-prices, schema: order.avsc, key: id, event_time: at, kind: reference, max_age: 1d, on_flood: pause}\n"


def write_shop(folder: Path, on_flood: str = "throttle", more: str = "") -> Path:
    """Write the application: two streams of one schema, and what else a test declares."""
    (folder / "order.avsc").write_text(json.dumps(ORDER))
    (folder / "app.yaml").write_text(APPLICATION.replace("ORDERS", on_flood) + more)
    return folder


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
        write_shop(self.folder, on_flood, PRICES)

    def start(self) -> None:
        """Start anew, in a process that knows nothing."""
        runner = RunnerSettings(
            commit_interval_ms=1, idle_interval_ms=1, checkpoint_interval_ms=0, dead_letter_window=100, state_folder=self.folder / "state"
        )
        commands, lake = CommandsSettings.model_validate({"key": KEY.decode()}), LakeSettings(uri=str(self.folder / "lake"))
        settings = IngestionSettings(application=self.folder, runner=runner, commands=commands, lake=lake, ingestion=ClockSettings(tick_ms=1))
        self.health, self.metrics = ProcessHealth(), Metrics("ingestion")
        self.runner: Runner = build(settings, self.broker, self.registry, self.metrics, self.health)

    def publish(self, stream: str, count: int, good: bool = True) -> list[str]:
        names = [f"{stream}-{self.number + i}" for i in range(count)]
        self.number += count
        for name in names:
            value = {"id": name, "at": time.time_ns() // 1_000_000} if good else {}
            self.sink.publish(f"shop-{stream}", name.encode(), json.dumps(value).encode())
        self.sent[stream] += count
        return names if good else []

    def say(
        self, stream: str, key: bytes = KEY, command: str = RESUME_STREAM, record: dict[str, Any] | None = None, issued_ms: int | None = None
    ) -> dict[str, Any]:
        said = record or signed_command(key, stream, command, "the producer is mended", issued_at=issued_ms)
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
        entries: list[tuple[str, str | None]] = []
        for value in self.values("shop-journal"):
            schema = json.loads(self.registry.schema(int.from_bytes(value[1:5], "big")))
            entry: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), fastavro.parse_schema(schema), None)
            if schema["name"] != "Tick":
                entries.append((entry["_event_id"].split("-")[0], entry["_event_id"]))
            elif entry["_paused"] or entry["_resumed"]:
                entries.append(("paused", entry["_paused"]) if entry["_paused"] else ("resumed", entry["_resumed"]))
        return entries

    def values(self, topic: str) -> list[bytes]:
        log = self.broker.log(TopicPartition(topic, 0))
        records, _ = log.read(0, log.end, log.end)
        return [value for value in records.values if value is not None]

    def entries(self, stream: str) -> list[str | None]:
        return [name for kind, name in self.journal() if kind == stream]
