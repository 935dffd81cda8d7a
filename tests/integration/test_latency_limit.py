"""What has waited too long is answered by the fallback, and says so; then the model answers again: real servers, a killed process."""

import itertools
import json
import os
import time
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Producer

from campaigns.starting_model import promote_starting_model
from tests import forked
from tests.integration.meters import APP, write_application
from tests.patience import patient, until
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.fork_server.process import StartedProcess
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.models.artifacts import ArtifactStore

ROOT = Path(__file__).parents[2]
# A loaded machine answers within the limit as well.
LIMIT_S, DEADLINE_S = 4.0, patient(90.0)


@pytest.mark.lasts(12)
@pytest.mark.timeout(180)
def test_a_process_that_was_killed_answers_what_waited_with_the_fallback_and_then_with_the_model(
    infrastructure: Infrastructure, application_name: str, tmp_path: Path
) -> None:
    folder = write_application(tmp_path / "app", application_name)
    text = APP.format(app=application_name).replace("{default: 0.1}", f"{{default: 0.1, latency_limit: {LIMIT_S}s}}")
    (folder / "app.yaml").write_text(text)
    plan, broker = load_plan(folder), KafkaBroker(infrastructure.bootstrap_servers)
    registry, reader = ConfluentSchemaRegistry(infrastructure.registry_url), broker.reader()
    broker.create_topics([*catalogue_topics(application_name, 2), *(TopicSpec(topic, 2) for topic in plan.topics.raw)])
    promote_starting_model(plan, "faulty", broker, registry, ArtifactStore(str(tmp_path / "artifacts")), seed=1)
    decoder = ColumnDecoder(registry, (ROOT / "schemas" / "prediction.avsc").read_text())
    producer = Producer({"bootstrap.servers": infrastructure.bootstrap_servers, "partitioner": "murmur2_random"})

    def publish(prefix: str) -> None:
        for i in range(20):
            reading = {"reading_id": f"{prefix}{i}", "meter": f"m{i}", "read_at": time.time_ns() // 1_000_000, "kwh": 1.0}
            producer.produce(plan.streams["readings"].topic, json.dumps(reading), f"m{i}")
        assert producer.flush(patient(30)) == 0

    def answers(prefix: str) -> Counter[tuple[str | None, str]]:
        counts = Counter[tuple[str | None, str]]()
        for partition in range(2):
            for records in reader.read(TopicPartition(plan.topics.predictions, partition), 0):
                batch = decoder.decode([value for value in records.values if value is not None]).batch
                rows = zip(*(batch.column(name).to_pylist() for name in ("request_id", "reason", "variant")), strict=True)
                counts.update((reason, variant) for request, reason, variant in rows if request.startswith(prefix))
        return counts

    def until_answered(prefix: str, process: StartedProcess) -> Counter[tuple[str | None, str]]:
        end = time.monotonic() + DEADLINE_S
        while answers(prefix).total() < 20:
            assert process.poll() is None and time.monotonic() < end, (tmp_path / "fused.log").read_text()[-3_000:]
            time.sleep(0.1)
        return answers(prefix)

    turns = itertools.count()

    def until_the_model_answers(process: StartedProcess) -> None:
        def answers_in_time() -> bool:
            prefix = f"calm-{next(turns)}-"
            publish(prefix)
            return until_answered(prefix, process) == {(None, "champion"): 20}

        until(answers_in_time, "the model's answers in time")

    environment = {
        **os.environ, **infrastructure.environment, "TIDEMILL_APPLICATION": str(folder), "TIDEMILL_ARTIFACTS__URI": str(tmp_path / "artifacts"),
        "TIDEMILL_RUNNER__STATE_FOLDER": str(tmp_path / "state"),
    }  # fmt: skip
    running: list[StartedProcess] = []

    def start() -> StartedProcess:
        running.append(forked.start("tidemill.services.fused", environment=environment, log=tmp_path / "fused.log"))
        return running[-1]

    try:
        process = start()
        until_the_model_answers(process)
        process.kill()
        process.wait()
        publish("late-")
        # No condition to wait for: what was published is to be older than the limit when somebody reads it.
        time.sleep(LIMIT_S)
        process = start()
        assert until_answered("late-", process) == {("latency", "default"): 20}
        until_the_model_answers(process)
    finally:
        for one in running:
            one.terminate()
            one.wait(patient(30))
        reader.close()
