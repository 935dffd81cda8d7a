"""A short attack on ingestion, features and scoring in one process: everything is accounted for, and nobody else's bits change."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from campaigns.hostile.application import STREAMS, write_application
from campaigns.hostile.foreign import foreign_records
from campaigns.hostile.messages import GOOD_ACCOUNTS, Grammar, good_payment
from campaigns.hostile.oracle import judge, raw_records
from tidemill.audit.history import prediction_schema, read_history
from tidemill.replay.feed import subject
from tidemill.services.features.task import FeaturesTask
from tidemill.services.features.task import task_inputs as features_inputs
from tidemill.services.ingestion.task import IngestionTask
from tidemill.services.ingestion.task import task_inputs as ingestion_inputs
from tidemill.services.scoring.task import ScoringTask
from tidemill.services.scoring.task import task_inputs as scoring_inputs
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.dead_letters.reading import DeadLetterOffice
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.observability.settings import RunnerSettings, ServiceSettings
from tidemill.shared.runner.task import Stage
from tidemill.shared.service.stage import chain_runner

MESSAGES, GOOD = 500, 250


@pytest.mark.parametrize("seed", [1])
def test_an_attack_touches_nobody_else(tmp_path: Path, seed: int) -> None:
    plan = load_plan(write_application(tmp_path / "application", "attacked"))
    broker, registry = MemoryBroker(), MemorySchemaRegistry()
    broker.create_topics([*catalogue_topics("attacked", 2), *(TopicSpec(topic, 2) for topic in plan.topics.raw)])
    codecs = {name: RecordCodec(registry, subject(plan.streams[name]), plan.streams[name].user_schema) for name in STREAMS}
    grammar = Grammar(seed, lambda stream, record: codecs[stream].encode(dict(record)), foreign_records(registry, "attacked-payments"))
    store = ArtifactStore(str(tmp_path / "artifacts"))
    counts = {stream.topic: 2 for stream in plan.reference_streams}
    settings = ServiceSettings(
        application=tmp_path / "application",
        runner=RunnerSettings(
            commit_interval_ms=1, idle_interval_ms=1, checkpoint_interval_ms=0, backoff_initial_ms=0, state_folder=tmp_path / "state"
        ),
    )
    stages = [
        Stage("ingestion", ingestion_inputs(plan), lambda p: IngestionTask(plan, registry, p, "live", 1_000, counts)),
        Stage("features", features_inputs(plan), lambda p: FeaturesTask(plan, registry, p)),
        Stage("scoring", scoring_inputs(plan), lambda p: ScoringTask(plan, registry, store, p)),
    ]
    runner, sink = chain_runner(stages, plan, settings, broker, registry), broker.sink()
    good: dict[str, dict[str, Any]] = {}
    kinds: Counter[str] = Counter()
    for account in GOOD_ACCOUNTS:
        row = {"account": account, "changed_at": now_ms(), "age": 3, "score": 0.5}
        sink.publish(plan.streams["customers"].topic, account.encode(), json.dumps(row).encode(), now_ms())
    for number in range(MESSAGES):
        message = grammar.next(now_ms())
        kinds[message.kind] += 1
        if message.channel == "kafka" and message.stream in plan.streams and len(message.value or b"") < 10**6:
            at = min(message.timestamp_ms or now_ms(), 2**53)
            sink.publish(plan.streams[message.stream].topic, message.key, message.value, at, message.partition)
        if number * GOOD // MESSAGES >= len(good):
            record = good_payment(len(good), now_ms(), seed)
            good[record["payment_id"]] = record
            value = json.dumps(record).encode() if number % 4 else codecs["payments"].encode(record)
            sink.publish(plan.streams["payments"].topic, record["account"].encode(), value, now_ms())
        if number % 40 == 39:
            runner.step()
    assert len(kinds) >= 18, kinds
    decoder = ColumnDecoder(registry, prediction_schema())

    def answers() -> Counter[str]:
        logs = [broker.log(TopicPartition(plan.topics.predictions, p)) for p in range(2)]
        return Counter(name for log in logs for name in decoder.decode(log.read(0, log.end, 10**9)[0].values).batch.column("request_id").to_pylist())

    for _ in range(100):
        for _ in range(20):
            runner.step()
        if all(name in (attacked := answers()) for name in good):
            break
    for _ in range(20):
        runner.step()
    history = read_history(plan, broker, registry)
    letters = list(DeadLetterOffice(plan, broker, registry).letters())
    verdict = judge(plan, registry, history, letters, good, attacked, raw_records(plan, broker))
    assert not verdict.problems, verdict
    assert verdict.rejected > 100 and verdict.vectors_compared == GOOD and verdict.entities_compared > 40


def now_ms() -> int:
    """The wall clock: live, nothing else is meant."""
    return time.time_ns() // 1_000_000
