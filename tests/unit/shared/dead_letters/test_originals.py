"""An original that outgrew its dead letter is found on its topic, else in the lake, byte for byte, or the answer says where it is not."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.orders_application import ORDERS, order_schema, write_orders
from tidemill.services.cli.dead_letters import whole
from tidemill.services.ingestion.sizes import Quarantine, TopicSizes
from tidemill.services.ingestion.task import IngestionTask, task_inputs
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.dead_letters.letters import Letter, Selection
from tidemill.shared.dead_letters.originals import OriginalGone, Originals
from tidemill.shared.dead_letters.reading import DeadLetterOffice
from tidemill.shared.dead_letters.replaying import DeadLetterReplay
from tidemill.shared.lake.tables import Lake
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.heartbeat import HEARTBEAT_KEY
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.observability.settings import RunnerSettings, ServiceSettings
from tidemill.shared.runner.task import Stage
from tidemill.shared.service.stage import chain_runner

T0 = 1_760_000_000_000
SCHEMA = order_schema([{"name": "note", "type": "string"}])
SHORT = '    expect: [{name: short, check: "LENGTH(note) < 100"}]\n'


class World:
    """Ingestion on a broker in memory whose internal topics take 20,000 bytes, and three orders too long for a letter that are refused."""

    def __init__(self, folder: Path, declared: str = SHORT) -> None:
        self.folder, self.broker, self.registry = folder, MemoryBroker(), MemorySchemaRegistry()
        self.declare(declared)
        for spec in catalogue_topics("shop", 1):
            self.broker.create_topics([TopicSpec(spec.name, spec.partitions, {**spec.config, "max.message.bytes": "20000"})])
        self.broker.create_topics([TopicSpec("orders")])
        self.lake = Lake(str(folder / "lake"), "shop")
        self.values = [json.dumps({"order_id": f"o{i}", "note": "é" * (30_000 + i), "at": T0 + i}, ensure_ascii=False).encode() for i in range(3)]
        for i, value in enumerate(self.values):
            self.broker.sink().publish("orders", f"o{i}".encode(), value, T0 + i, 0)
        self.ingest()

    def declare(self, declared: str) -> None:
        self.plan = load_plan(write_orders(self.folder, SCHEMA, ORDERS + declared))

    def ingest(self) -> None:
        newest = T0 + 10_000 + len(self.raw())
        self.broker.sink().publish("orders", HEARTBEAT_KEY, None, newest, 0)
        quarantine = Quarantine(self.lake.append, self.lake.root)
        sizes = TopicSizes(self.plan, self.broker)
        stage = Stage(
            "ingestion", task_inputs(self.plan), lambda p: IngestionTask(self.plan, self.registry, p, "replay", sizes=sizes, quarantine=quarantine)
        )
        settings = ServiceSettings(
            application=self.folder, runner=RunnerSettings(commit_interval_ms=1, idle_interval_ms=1, state_folder=self.folder / "state")
        )
        runner = chain_runner([stage], self.plan, settings, self.broker, self.registry)
        for _ in range(20):
            runner.step()
        runner.close()

    def raw(self) -> list[bytes | None]:
        log = self.broker.log(TopicPartition("orders", 0))
        return list(log.read(0, log.end, 10**9)[0].values)

    def letters(self) -> list[Letter]:
        return list(DeadLetterOffice(self.plan, self.broker, self.registry).letters())


def test_the_whole_is_found_on_the_topic_and_in_the_lake(tmp_path: Path) -> None:
    world = World(tmp_path)
    letters = world.letters()
    assert [letter.record["value_bytes"] for letter in letters] == [len(value) for value in world.values]
    for originals, where in (
        (Originals(world.broker, None), "topic"),
        (Originals(None, world.lake), "lake"),
        (Originals(world.broker, world.lake), "topic"),
    ):
        whole = [originals.of(letter) for letter in letters]
        assert [(one.key, one.value, one.found_in) for one in whole] == [(f"o{i}".encode(), value, where) for i, value in enumerate(world.values)]


def test_show_and_export_have_the_whole_or_say_why_not(tmp_path: Path) -> None:
    world = World(tmp_path)
    letter = world.letters()[1]
    shown = whole(letter, Originals(None, world.lake))
    assert (shown["value"], shown["original_from"], shown["key"]) == (world.values[1].decode(), "lake", "o1")
    missing = whole(letter, Originals())
    assert "the whole was not found" in missing["original_missing"] and "table quarantine" in missing["original_missing"]
    assert len(missing["value"]) < 20_000


def test_another_record_at_the_same_place_is_never_taken_for_the_original(tmp_path: Path) -> None:
    world = World(tmp_path)
    letter = world.letters()[0]
    other: Any = MemoryBroker()
    other.create_topics([TopicSpec("orders")])
    other.sink().publish("orders", b"o0", world.values[0].replace("é".encode(), "è".encode(), 1), T0, 0)
    with pytest.raises(OriginalGone, match=r"another record at orders:0:0, not in .*quarantine"):
        Originals(other, Lake(str(tmp_path / "nowhere"), "shop")).of(letter)
    assert Originals(other, world.lake).of(letter).found_in == "lake"
    record = {**letter.record, "value_sha256": hashlib.sha256(b"x").hexdigest()}
    with pytest.raises(OriginalGone, match="another record"):
        Originals(world.broker, world.lake).of(Letter(letter.place, record, "orders"))


def test_a_replay_publishes_what_outgrew_its_letter_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidemill.shared.dead_letters.replaying._AT_ONCE_BYTES", 70_000)
    world = World(tmp_path)
    assert {letter.record["reason"] for letter in world.letters()} == {"expectation"}
    world.declare("")
    for _ in range(2):
        result = DeadLetterReplay(world.plan, world.broker, world.registry, Originals(None, world.lake), True).run(Selection())
        assert result.refused == []
    assert [value for value in world.raw() if value] == [*world.values, *world.values]
