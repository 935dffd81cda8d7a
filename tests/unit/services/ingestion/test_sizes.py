"""A record whose journal entry outgrows the journal's topic is one dead letter that fits; the whole of it lies in the lake, once."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from deltalake import DeltaTable

from tests.orders_application import ORDERS, order_schema, write_orders
from tidemill.services.features.task import FeaturesTask
from tidemill.services.features.task import task_inputs as features_inputs
from tidemill.services.ingestion.service import stage as ingestion_stage
from tidemill.services.ingestion.settings import ClockSettings, IngestionSettings
from tidemill.services.ingestion.sizes import Quarantine, TopicSizes
from tidemill.services.ingestion.task import IngestionTask
from tidemill.services.outcomes.service import build as build_outcomes
from tidemill.services.scoring.task import ScoringTask
from tidemill.services.scoring.task import task_inputs as scoring_inputs
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.lake.tables import Lake
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.heartbeat import HEARTBEAT_KEY
from tidemill.shared.log.records import Records, Step, TopicPartition
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.observability.settings import LakeSettings, RunnerSettings
from tidemill.shared.runner.letter_size import fits, fitted
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.stage_topics import TopicMismatchError
from tidemill.shared.runner.task import Stage, StepContext
from tidemill.shared.service.stage import chain_runner

NOW, LIMIT = 1_760_000_000_000, 20_000
REJECTED = (Path(__file__).parents[4] / "schemas" / "rejected.avsc").read_text("utf-8")
SCHEMA = order_schema([{"name": "note", "type": "string"}])
DERIVED = '    derive: {twice: "note || note"}\n'


class Bench:
    """Ingestion with topics that take 20,000 bytes, and a broker that refuses more."""

    def __init__(self, folder: Path, lake: bool = True) -> None:
        self.plan, self.registry, self.broker = load_plan(write_orders(folder, SCHEMA, ORDERS + DERIVED)), MemorySchemaRegistry(), MemoryBroker()
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


FEATURES = """
app: shop
owner: shop@example.org
partition_by: order_id
streams:
  orders: {topic: orders, schema: order.avsc, event_id: order_id, event_time: at}
  names: {topic: names, schema: name.avsc, kind: reference, key: name, event_time: at, max_age: 9d}
  ends: {topic: ends, schema: order.avsc, event_id: order_id, event_time: at}
entities:
  who: {from: {orders: name}}
views:
  seen: {entity: who, source: orders, aggregate: [count], windows: [1h, 2h, 3h]}
models:
  ended: {ask: orders, features: ["*"], label: {stream: ends, join: order_id, value: "1", max_delay: 1d}, fallback: {default: 0.1}}
"""
NAMED = {**SCHEMA, "fields": [*SCHEMA["fields"], {"name": "name", "type": "string"}]}


class Chain:
    """Every stage up to the outcomes on a broker in memory that refuses what a topic does not take."""

    def __init__(self, folder: Path, limits: dict[str, int]) -> None:
        (folder / "order.avsc").write_text(json.dumps(NAMED))
        (folder / "name.avsc").write_text(json.dumps(NAMED))
        (folder / "app.yaml").write_text(FEATURES)
        self.folder, self.plan, self.broker, self.registry = folder, load_plan(folder), self.broker_with(limits), MemorySchemaRegistry()
        self.broker.create_topics([TopicSpec(topic) for topic in self.plan.topics.raw])

    @staticmethod
    def broker_with(limits: dict[str, int]) -> MemoryBroker:
        broker = MemoryBroker()
        for spec in catalogue_topics("shop", 1):
            limit = {"max.message.bytes": str(limits[spec.name])} if spec.name in limits else {}
            broker.create_topics([TopicSpec(spec.name, spec.partitions, {**spec.config, **limit})])
        return broker

    def runners(self) -> list[Runner]:
        quick = RunnerSettings(commit_interval_ms=1, idle_interval_ms=1, checkpoint_interval_ms=0, state_folder=self.folder / "state")
        lake, store = LakeSettings(uri=str(self.folder / "lake")), ArtifactStore(str(self.folder / "artifacts"))
        settings = IngestionSettings(application=self.folder, runner=quick, lake=lake, ingestion=ClockSettings(clock="replay"))
        stages = [
            ingestion_stage(settings, self.plan, self.broker, self.registry),
            Stage("features", features_inputs(self.plan), lambda p: FeaturesTask(self.plan, self.registry, p)),
            Stage("scoring", scoring_inputs(self.plan), lambda p: ScoringTask(self.plan, self.registry, store, p)),
        ]
        return [chain_runner(stages, self.plan, settings, self.broker, self.registry), build_outcomes(settings, self.broker, self.registry)]

    def run(self, orders: list[bytes]) -> dict[str, int]:
        """Publish orders, references and labels of the same, run all stages, and count what is on each topic."""
        sink, n = self.broker.sink(), len(orders)
        for i, value in enumerate(orders):
            for topic, shift in (("names", 0), ("orders", 1), ("ends", 2)):
                sink.publish(topic, b"k", value, NOW + 1_000 * i + shift, 0)
        for topic in self.plan.topics.raw:
            sink.publish(topic, HEARTBEAT_KEY, None, NOW + 10_000_000, 0)
        runners = self.runners()
        for _ in range(60):
            for runner in runners:
                runner.step()
        for runner in runners:
            runner.close()
        topics = self.plan.topics
        return {name: self.count(name) for name in (topics.journal, topics.rejected, topics.vectors, topics.predictions, topics.outcomes)} | {
            "sent": n
        }

    def count(self, topic: str) -> int:
        log = self.broker.log(TopicPartition(topic, 0))
        return len(log.read(0, log.end, 10**9)[0].values)


def named(i: int, order: int, name: int, note: int) -> bytes:
    return json.dumps({"order_id": f"{i}".ljust(order, "o"), "name": f"{i}".ljust(name, "n"), "note": "x" * note, "at": NOW + 1_000 * i}).encode()


SIZES = [
    (1, 1, 1),
    (9_000, 1, 1),
    (1, 30_000, 1),
    (1, 9_000, 1),
    (1, 1, 30_000),
    (4_000, 4_000, 4_000),
    (20_000, 20_000, 1),
    (1, 60_000, 1),
    (1, 1, 90_000),
]


@pytest.mark.parametrize("small", ["vectors", "predictions", "outcomes", "duplicates", "features-checkpoint", "outcomes-checkpoint", "rejected", ""])
def test_what_is_accepted_fits_every_topic_behind_it(tmp_path: Path, small: str) -> None:
    chain = Chain(tmp_path, {f"shop-{small}": 40_000} if small else {})
    steps = chain.run([named(i, *size) for i, size in enumerate(SIZES)])
    entries = steps["shop-journal"] - 1  # a tick
    assert entries + steps["shop-rejected"] == 3 * len(SIZES)
    assert steps["shop-vectors"] == steps["shop-predictions"] == steps["shop-outcomes"]
    assert steps["shop-vectors"] == len(SIZES) if not small or small == "rejected" else 1 < steps["shop-vectors"] < len(SIZES)


@pytest.mark.parametrize("small", ["vectors", "predictions", "journal", "rejected", "features-checkpoint"])
def test_a_topic_that_takes_less_than_is_written_whatever_comes_is_named_at_the_start(tmp_path: Path, small: str) -> None:
    chain = Chain(tmp_path, {f"shop-{small}": 2_000})
    with pytest.raises(
        TopicMismatchError, match=rf"shop-{small}: expected a topic that takes records of [0-9,]+ bytes .*, this one takes 2,000; raise"
    ):
        chain.runners()


def test_a_letter_of_a_stage_behind_is_within_its_topic_too(tmp_path: Path) -> None:
    chain = Chain(tmp_path, {"shop-rejected": 20_000})
    file = tmp_path / "app.yaml"
    file.write_text(FEATURES.replace('value: "1"', 'value: "LENGTH(name)"'))
    chain.plan = load_plan(tmp_path)
    steps = chain.run([named(0, 1, 2, 30_000), named(1, 1, 1, 30_000)])
    assert (steps["shop-rejected"], steps["shop-outcomes"]) == (1, 1), "a label of 2 is none, and its letter holds no more than the topic takes"


@pytest.mark.parametrize("small", ["outcomes", "shadow-scores"])
def test_probabilities_by_class_and_versions_of_features_are_part_of_what_a_topic_has_to_take(tmp_path: Path, small: str) -> None:
    chain = Chain(tmp_path, {f"shop-{small}": 40_000, "shop-view-switches": 1_700})
    with pytest.raises(TopicMismatchError, match=r"shop-view-switches: .* \(the versions of all features\)"):
        chain.runners()
    classes = json.dumps([f"{i:0150}x" for i in range(200)])
    several = f"kind: multiclass, classes: {classes}, ask: orders"
    (tmp_path / "app.yaml").write_text(
        FEATURES.replace("ask: orders", several).replace('value: "1"', "value: name").replace("default: 0.1", f"default: '{149 * '0'}0x'")
    )
    with pytest.raises(TopicMismatchError, match=rf"shop-{small}: expected a topic that takes records of 6\d,\d\d\d bytes"):
        TopicSizes(load_plan(tmp_path), Chain.broker_with({f"shop-{small}": 40_000}))
