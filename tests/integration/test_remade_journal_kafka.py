"""Real Kafka: a journal is deleted, made anew and filled beyond all positions. Who works by it notices, and goes no further."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from tests.integration.meters import write_application
from tests.patience import patient
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.services.features.service import build as features
from tidemill.services.ingestion.service import build as ingestion
from tidemill.services.ingestion.settings import IngestionSettings
from tidemill.services.outcomes.service import build as outcomes
from tidemill.services.scoring.service import build as scoring
from tidemill.services.scoring.settings import ScoringSettings
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.broker import OffsetLostError, TopicRemadeError, TopicSpec
from tidemill.shared.log.records import Emission, Records, TopicPartition
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.observability.settings import LakeSettings, RedisSettings, RunnerSettings, ServiceSettings
from tidemill.shared.runner.runner import Runner

DEADLINE_S = patient(60.0)
COUNT = 40


def until(condition: Callable[[], bool], work: Callable[[], object] = lambda: time.sleep(0.02)) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        work()
        assert time.monotonic() < deadline, "condition not met"


def test_a_journal_that_was_made_anew_stops_who_works_by_it_live_and_at_the_start(
    infrastructure: Infrastructure, application_name: str, tmp_path: Path
) -> None:
    app = application_name
    folder = write_application(tmp_path / "app", app)
    plan, registry = load_plan(folder), MemorySchemaRegistry()
    broker = KafkaBroker(infrastructure.bootstrap_servers, session_timeout_ms=6_000)
    broker.create_topics([*catalogue_topics(app, 2), *(TopicSpec(topic, 2) for topic in plan.topics.raw)])
    common = {
        "application": folder,
        "redis": RedisSettings(url=infrastructure.redis_url),
        "lake": LakeSettings(uri=str(tmp_path / "lake")),
        "runner": RunnerSettings(topic_check_ms=200, commit_interval_ms=5, idle_interval_ms=5, state_folder=tmp_path / "state"),
    }
    settings = ServiceSettings.model_validate(common)

    def start() -> dict[str, Runner]:
        return {
            "ingestion": ingestion(IngestionSettings.model_validate(common), broker, registry),
            "features": features(settings, broker, registry),
            "scoring": scoring(ScoringSettings.model_validate(common), broker, registry),  # outcomes waits for it
            "outcomes": outcomes(settings, broker, registry),
        }

    def publish(count: int) -> None:
        sink = broker.sink()
        for number in range(count):
            meter = f"m{number % 4}"
            reading = {"reading_id": f"r{number}", "meter": meter, "read_at": time.time_ns() // 1_000_000, "kwh": 1.0}
            sink.publish(f"{app}-readings", meter.encode(), json.dumps(reading).encode())
        sink.close()

    def journal() -> list[Records]:
        reader = broker.reader()
        entries = [records for number in range(2) for records in reader.read(TopicPartition(plan.topics.journal, number), 0)]
        reader.close()
        return entries

    def has_read(runner: Runner) -> bool:
        offsets = [
            offset for one in runner.tasks.values() for place, offset in one.progress.input_offsets.items() if place.topic == plan.topics.journal
        ]
        return len(offsets) == 2 and min(offsets) > 0

    publish(COUNT)
    running = start()
    until(lambda: has_read(running["features"]) and has_read(running["outcomes"]), lambda: [runner.step() for runner in running.values()])
    before = journal()
    admin = AdminClient({"bootstrap.servers": infrastructure.bootstrap_servers})
    admin.delete_topics([plan.topics.journal])[plan.topics.journal].result(DEADLINE_S)
    until(lambda: broker.partitions(plan.topics.journal) == 0)
    broker.create_topics(catalogue_topics(app, 2))
    until(lambda: broker.partitions(plan.topics.journal) == 2)
    sink = broker.sink()
    for records in before * 3:
        # Whoever looks at lengths alone finds every position that it had.
        sink.publish_run(Emission(records.topic, records.partition, records.keys, records.values, records.timestamps_ms))
    sink.close()
    # A client that fetches before the new log has grown is told that its position is gone: that stops its stage as well.
    for error, says in ((OffsetLostError, "made it anew|created anew"), (TopicRemadeError, "made it anew")):
        for name in ("ingestion", "features", "outcomes"):
            with pytest.raises(error, match=rf"{plan.topics.journal}:.*({says})"):
                until(lambda: False, running[name].step)
        for runner in running.values():
            runner.close()
        running = start()
    for runner in running.values():
        runner.close()
