"""An old replica of the other topology, stopped past its session and woken again, beside the fused process: one prediction a request."""

import signal
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.integration.flights_services import NOON, ROOT, STREAMS, application, departure, service, until
from tests.patience import patient
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.service.stage import FUSED, FUSIBLE

__all__ = ["application"]
SLICE = 500


@pytest.mark.lasts(40)
@pytest.mark.timeout(300)
def test_a_sleeping_replica_of_another_name_and_topology_wakes_and_doubles_nothing(
    application: Path, application_name: str, infrastructure: Infrastructure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = load_plan(application)
    broker = KafkaBroker(infrastructure.bootstrap_servers)
    broker.create_topics([*catalogue_topics(application_name, 1), *(TopicSpec(topic) for topic in plan.topics.raw)])
    reader = broker.reader()
    producer = Producer({"bootstrap.servers": infrastructure.bootstrap_servers})

    def values(topic: str) -> list[bytes]:
        return [value for records in reader.read(TopicPartition(topic, 0), 0) for value in records.values if value is not None]

    def publish(turn: int) -> None:
        for i in range(turn * SLICE, (turn + 1) * SLICE):
            producer.produce(plan.streams["departures"].topic, departure(i), f"f{i}".encode(), timestamp=NOON + i * 1_000)
        for stream in STREAMS:
            producer.produce(plan.streams[stream].topic, None, b"heartbeat", timestamp=NOON + (turn + 1) * SLICE * 1_000)
        assert producer.flush(patient(30)) == 0

    def answered(count: int) -> None:
        until(lambda: len(values(plan.topics.predictions)) >= count, f"{count} predictions", tmp_path)

    monkeypatch.setenv("TIDEMILL_INSTANCE", "old")
    olds = [service(stage, application, infrastructure, tmp_path) for stage in FUSIBLE]
    with olds[0] as ingestion, olds[1] as features, olds[2] as scoring:
        old = [begin() for begin in (ingestion, features, scoring)]
        publish(0)
        until(lambda: bool(values(plan.topics.vectors)), "vectors of the old replica", tmp_path, poll_s=0.01)
        for process in old:
            process.send_signal(signal.SIGSTOP)
        monkeypatch.setenv("TIDEMILL_INSTANCE", "0")
        with service(FUSED, application, infrastructure, tmp_path) as start:
            start()
            publish(1)
            answered(2 * SLICE)
            for process in old:
                process.send_signal(signal.SIGCONT)
            publish(2)
            answered(3 * SLICE)
            until(lambda: "stands by" in (tmp_path / "features.log").read_text() or old[1].poll() is not None, "it stands by or ends", tmp_path)
            # One that was fenced ends; its supervisor starts it again.
            monkeypatch.setenv("TIDEMILL_INSTANCE", "old")
            for begin, process in zip((ingestion, features, scoring), old, strict=True):
                if process.poll() is not None:
                    begin()
            publish(3)
            answered(4 * SLICE)
        # The new one has gone: the old one goes on.
        publish(4)
        answered(5 * SLICE)
    registry = ConfluentSchemaRegistry(infrastructure.registry_url)
    predictions = ColumnDecoder(registry, (ROOT / "schemas" / "prediction.avsc").read_text()).decode(values(plan.topics.predictions)).batch
    assert Counter(predictions.column("request_id").to_pylist()) == Counter(f"f{i}" for i in range(5 * SLICE))
    vectors = ColumnDecoder(registry, plan.vector_schema).decode(values(plan.topics.vectors)).batch
    assert vectors.column("origin_traffic__count_1h").to_pylist() == [float(min(i + 1, 3_600)) for i in range(5 * SLICE)], "counted once each"
    reader.close()
