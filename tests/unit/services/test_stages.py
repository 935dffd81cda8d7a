"""Raw bytes through ingestion and features, as the runner would call them."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tidemill.services.features.task import FeaturesTask
from tidemill.services.ingestion.task import IngestionTask
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.heartbeat import HEARTBEAT_KEY
from tidemill.shared.log.records import Emission, Records, TopicPartition
from tidemill.shared.runner.task import StepContext

ROOT = Path(__file__).parents[3]
NOON = 1_358_424_000_000
CONTEXT = StepContext(now_ms=NOON)


@pytest.fixture
def plan() -> Plan:
    return load_plan(ROOT / "examples" / "flights")


def departure(flight_id: str, at: int, **changes: object) -> bytes:
    event = {
        "flight_id": flight_id, "scheduled_departure": at, "carrier": "UA", "flight": 1, "tailnum": "N1", "origin": "EWR", "dest": "IAH",
        "distance": 1400.0, "sched_block_min": 240.0, "local_minute": 315, "weekday": 1, "plane_year": 1999.0, "seats": 149.0, **changes,
    }  # fmt: skip
    return json.dumps(event).encode()


def records(topic: str, values: Sequence[tuple[int, bytes | None]], first: int = 0) -> Records:
    times = np.array([time for time, _ in values], np.int64)
    return Records(
        topic,
        0,
        np.arange(first, first + len(values)),
        times,
        [b"k" if value is not None else HEARTBEAT_KEY for _, value in values],
        [value for _, value in values],
    )


def heartbeats(time: int, first: dict[str, int]) -> list[Records]:
    return [records(f"flights-{name}", [(time, None)], first.get(name, 0)) for name in ("departures", "arrivals", "weather")]


def journal_of(emissions: Sequence[Emission], begin: int = 0) -> Records:
    parts = [emission for emission in emissions if emission.topic == "flights-journal"]
    keys = [key for part in parts for key in part.keys]
    values = [value for part in parts for value in part.values]
    return Records("flights-journal", 0, np.arange(begin, begin + len(values)), np.zeros(len(values), np.int64), keys, values)


def test_a_request_in_json_becomes_a_vector(plan: Plan) -> None:
    registry = MemorySchemaRegistry()
    ingestion = IngestionTask(plan, registry, 0, "replay")
    step = ingestion.process([records("flights-departures", [(NOON, departure("a", NOON))]), *heartbeats(NOON + 1, {"departures": 1})], CONTEXT)
    features = FeaturesTask(plan, registry, 0)
    answered = features.process([journal_of(step.emissions)], CONTEXT)
    vectors = ColumnDecoder(registry, plan.vector_schema).decode(answered.emissions[0].values).batch.to_pylist()
    assert [vector["_request_id"] for vector in vectors] == ["a"]
    assert vectors[0]["hour"] == 5.25
    assert vectors[0]["origin_traffic__count_1h"] == 1.0, "the asking event itself counts"
    assert vectors[0]["weather__temp"] is None
    assert answered.emissions[0].keys == [b"a"]
    assert answered.coverage.offset == 2
    assert answered.coverage.time_ms == NOON + 1


def test_every_bad_record_is_a_dead_letter_with_its_reason_and_bytes(plan: Plan) -> None:
    registry = MemorySchemaRegistry()
    ingestion = IngestionTask(plan, registry, 0, "replay")
    bad = [
        (b"\x00\x00\x00\x00\x63abc", "unknown_schema_id"),
        (b"garbage", "not_framed"),
        (b'{"flight_id": "b"', "invalid_json"),
        (departure("c", NOON, distance=-5.0), "expectation"),
        (departure("d", NOON, carrier=None), "expectation"),
        (departure("", NOON), "missing_key"),
        (departure("e", NOON, distence=1.0), "invalid_json"),
    ]
    values = [(NOON, value) for value, _ in bad] + [(NOON, departure("a", NOON)), (NOON, departure("a", NOON))]
    step = ingestion.process([records("flights-departures", values), *heartbeats(NOON + 1, {"departures": len(values)})], CONTEXT)
    by_topic = {emission.topic: emission for emission in step.emissions}
    codec = RecordCodec(registry, "t", (ROOT / "schemas" / "rejected.avsc").read_text())
    dead = [codec.decode(value or b"") for value in by_topic["flights-rejected"].values]
    assert [(letter["source_offset"], letter["reason"], letter["value"]) for letter in dead] == [
        (i, reason, value) for i, (value, reason) in enumerate(bad)
    ]
    assert len(by_topic["flights-duplicates"]) == 1
    assert len(by_topic["flights-journal"]) == 2, "one departure and the tick"
    assert step.positions[TopicPartition("flights-departures", 0)] == len(values) + 1


def test_a_restart_knows_what_was_accepted(plan: Plan) -> None:
    registry = MemorySchemaRegistry()
    first = IngestionTask(plan, registry, 0, "replay")
    step = first.process([records("flights-departures", [(NOON, departure("a", NOON))]), *heartbeats(NOON + 1, {"departures": 1})], CONTEXT)
    again = IngestionTask(plan, registry, 0, "replay")
    again.restore([])
    again.resume(step.positions, {}, step.coverage.offset, step.coverage.time_ms)
    again.replay([journal_of(step.emissions)])
    later = {"departures": 2, "arrivals": 1, "weather": 1}
    repeated = records("flights-departures", [(NOON + 2, departure("a", NOON)), (NOON + 2, departure("b", NOON - 3 * 3_600_000))], 2)
    step = again.process([repeated, *heartbeats(NOON + 3, {**later, "departures": 4})], CONTEXT)
    topics = [emission.topic for emission in step.emissions]
    assert topics == ["flights-journal", "flights-duplicates", "flights-late"]


def test_a_position_never_passes_a_record_that_is_held_back(plan: Plan) -> None:
    ingestion = IngestionTask(plan, MemorySchemaRegistry(), 0, "replay")
    step = ingestion.process([records("flights-departures", [(NOON, departure("a", NOON)), (NOON + 5, departure("b", NOON))])], CONTEXT)
    assert not step.emissions
    assert step.positions[TopicPartition("flights-departures", 0)] == 0


def test_an_idle_topic_costs_a_live_run_no_latency_and_idle_time_becomes_ticks(plan: Plan) -> None:
    ingestion = IngestionTask(plan, MemorySchemaRegistry(), 0, "live", tick_ms=1_000)
    ends = frozenset(TopicPartition(f"flights-{name}", 0) for name in ("departures", "arrivals", "weather"))
    step = ingestion.process([records("flights-departures", [(NOON, departure("a", NOON))])], StepContext(NOON, ends))
    assert [len(emission) for emission in step.emissions] == [1]
    # A process that is alive makes a step every few milliseconds: one that comes late looks at its inputs once more before time passes.
    for passed in range(10, 1_010, 200):
        assert not ingestion.process([], StepContext(NOON + passed, ends)).emissions
    assert ingestion.process([], StepContext(NOON + 1_010, ends)).coverage.time_ms == NOON + 1_010


def test_features_resume_from_a_checkpoint_and_the_journal(plan: Plan) -> None:
    registry = MemorySchemaRegistry()
    ingestion = IngestionTask(plan, registry, 0, "replay")
    values: list[tuple[int, bytes | None]] = [(NOON + i * 60_000, departure(f"f{i}", NOON)) for i in range(50)]
    step = ingestion.process([records("flights-departures", values), *heartbeats(NOON + 10_000_000, {"departures": 50})], CONTEXT)
    journal = journal_of(step.emissions)
    whole = FeaturesTask(plan, registry, 0).process([journal], CONTEXT).emissions[0].values
    first = FeaturesTask(plan, registry, 0)
    begin = first.process([journal[slice(0, 20)]], CONTEXT)
    checkpoint = first.checkpoint(1)
    second = FeaturesTask(plan, registry, 0)
    second.restore(checkpoint.entries)
    second.resume(begin.positions, {}, begin.coverage.offset, begin.coverage.time_ms)
    second.replay([journal[slice(checkpoint.marker[TopicPartition("flights-journal", 0)], 20)]])
    rest = second.process([journal[slice(20, 60)]], CONTEXT)
    assert [*begin.emissions[0].values, *rest.emissions[0].values] == list(whole)
