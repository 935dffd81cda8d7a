"""The fused topology on real Kafka: killed again and again, then relieved by the separate services, it answers every request once."""

import signal
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.integration.test_raw_to_prediction import NOON, ROOT, STREAMS, application, departure, service, until
from tests.patience import patient
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.heartbeat import HEARTBEAT_KEY
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.service.stage import FUSED, FUSIBLE

__all__ = ["application"]
KILLS, SLICE = 3, 700


@pytest.mark.lasts(52)
@pytest.mark.timeout(300)
def test_kills_and_a_change_of_topology_lose_and_double_nothing(
    application: Path, application_name: str, infrastructure: Infrastructure, tmp_path: Path
) -> None:
    plan = load_plan(application)
    broker = KafkaBroker(infrastructure.bootstrap_servers)
    registry = ConfluentSchemaRegistry(infrastructure.registry_url)
    broker.create_topics([*catalogue_topics(application_name, 1), *(TopicSpec(topic) for topic in plan.topics.raw)])
    reader = broker.reader()

    def values(topic: str) -> list[bytes]:
        return [value for records in reader.read(TopicPartition(topic, 0), 0) for value in records.values if value is not None]

    producer = Producer({"bootstrap.servers": infrastructure.bootstrap_servers})

    def publish(turn: int) -> None:
        begin, end = turn * SLICE, (turn + 1) * SLICE
        for i in range(begin, end):
            producer.produce(plan.streams["departures"].topic, departure(i), f"f{i}".encode(), timestamp=NOON + i * 1_000)
        for stream in STREAMS:
            producer.produce(plan.streams[stream].topic, None, HEARTBEAT_KEY, timestamp=NOON + end * 1_000)
        assert producer.flush(patient(30)) == 0

    with service(FUSED, application, infrastructure, tmp_path) as start:
        running = start()
        for turn in range(KILLS):
            publish(turn)
            until(lambda enough=turn * SLICE: len(values(plan.topics.predictions)) > enough, f"predictions of slice {turn}", tmp_path)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            running.send_signal(signal.SIGKILL)
            running.wait()
            running = start()
        until(lambda: len(values(plan.topics.predictions)) == KILLS * SLICE, "predictions of the fused topology", tmp_path)
        assert registered_transaction(tmp_path), "the fused process went to work"
    with service(FUSIBLE[0], application, infrastructure, tmp_path) as one, service(FUSIBLE[1], application, infrastructure, tmp_path) as two:
        with service(FUSIBLE[2], application, infrastructure, tmp_path) as three:
            for begin in (one, two, three):
                begin()
            publish(KILLS)
            until(lambda: len(values(plan.topics.predictions)) >= (KILLS + 1) * SLICE, "predictions of the separate topology", tmp_path)

    predictions = ColumnDecoder(registry, (ROOT / "schemas" / "prediction.avsc").read_text()).decode(values(plan.topics.predictions)).batch
    vectors = ColumnDecoder(registry, plan.vector_schema).decode(values(plan.topics.vectors)).batch
    count = (KILLS + 1) * SLICE
    expected = Counter(f"f{i}" for i in range(count))
    assert Counter(predictions.column("request_id").to_pylist()) == expected
    assert Counter(vectors.column("_request_id").to_pylist()) == expected
    hour = vectors.column("origin_traffic__count_1h").to_pylist()
    assert hour == [float(min(i + 1, 3_600)) for i in range(count)], "counted once each"
    at: dict[int, bytes | None] = {}
    for records in reader.read(TopicPartition(plan.topics.journal, 0), 0):
        at.update(zip(records.offsets.tolist(), records.keys, strict=True))
    offsets = vectors.column("_journal_offset").to_pylist()
    assert [at[offset] for offset in offsets] == [f"f{i}".encode() for i in range(count)], "every vector names the true offset of its entry"
    assert predictions.column("journal_offset").to_pylist() == offsets
    reader.close()


def registered_transaction(folder: Path) -> bool:
    """Whether the log of the fused process says that it was given its partition."""
    return "assigned" in (folder / f"{FUSED}.log").read_text()
