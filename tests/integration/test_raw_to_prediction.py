"""Raw events to predictions through three services on real Kafka and a real registry, killed on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.patience import patient
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.lifeline import tied_to_parent
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.heartbeat import HEARTBEAT_KEY
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.online_store.redis_store import RedisOnlineStore

ROOT = Path(__file__).parents[2]
NOON = 1_358_424_000_000
EVENTS = 3_000
STREAMS = ("departures", "arrivals", "weather")


@pytest.fixture
def application(tmp_path: Path, application_name: str) -> Path:
    """The flights application under a name of its own."""
    folder = Path(shutil.copytree(ROOT / "examples" / "flights", tmp_path / "application"))
    text = (folder / "app.yaml").read_text()
    text = text.replace("app: flights", f"app: {application_name}")
    for stream in STREAMS:
        text = text.replace(f"topic: flights-{stream}", f"topic: {application_name}-{stream}")
    (folder / "app.yaml").write_text(text)
    return folder


def departure(i: int) -> bytes:
    event = {
        "flight_id": f"f{i}", "scheduled_departure": NOON + i * 1_000, "carrier": "UA", "flight": i, "tailnum": f"N{i % 50}", "origin": "EWR",
        "dest": "IAH", "distance": 1400.0, "sched_block_min": 240.0, "local_minute": 315, "weekday": 1, "plane_year": 1999.0, "seats": 149.0,
    }  # fmt: skip
    return json.dumps(event).encode()


@contextmanager
def service(name: str, application: Path, infrastructure: Infrastructure, folder: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Give a function that starts the service (again); ends it at the end."""
    running: list[subprocess.Popen[bytes]] = []
    environment = {
        **os.environ, **infrastructure.environment, "TIDEMILL_APPLICATION": str(application), "TIDEMILL_INGESTION__CLOCK": "replay",
        "TIDEMILL_ARTIFACTS__URI": str(folder / "artifacts"), "TIDEMILL_RUNNER__STATE_FOLDER": str(folder / "state"),
    }  # fmt: skip

    def start() -> subprocess.Popen[bytes]:
        with (folder / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", f"tidemill.services.{name}"]
            running.append(subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log, preexec_fn=tied_to_parent()))
        return running[-1]

    try:
        yield start
    finally:
        for process in running:
            if process.poll() is None:
                process.terminate()
        for process in running:
            process.wait(patient(30))


def until(condition: Callable[[], bool], what: str, folder: Path, deadline_s: float = patient(120.0), poll_s: float = 0.1) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            logs = "\n".join(f"== {log.name}\n" + log.read_text()[-2_000:] for log in folder.glob("*.log"))
            raise AssertionError(f"not within {deadline_s:.0f} s: {what}\n{logs}")
        time.sleep(poll_s)


@pytest.mark.lasts(20)
@pytest.mark.timeout(300)
def test_every_request_has_one_vector_and_one_prediction_although_every_service_is_killed(
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

    def publish(begin: int, end: int) -> None:
        for i in range(begin, end):
            producer.produce(plan.streams["departures"].topic, departure(i), f"f{i}".encode(), timestamp=NOON + i * 1_000)
        for stream in STREAMS:
            producer.produce(plan.streams[stream].topic, None, HEARTBEAT_KEY, timestamp=NOON + end * 1_000)
        assert producer.flush(patient(30)) == 0

    with (
        service("ingestion", application, infrastructure, tmp_path) as ingestion,
        service("features", application, infrastructure, tmp_path) as features,
        service("scoring", application, infrastructure, tmp_path) as scoring,
    ):
        starts = {"ingestion": ingestion, "features": features, "scoring": scoring}
        running = {name: start() for name, start in starts.items()}
        third = EVENTS // len(starts)
        for turn, (name, start) in enumerate(starts.items()):
            publish(turn * third, (turn + 1) * third)
            until(lambda enough=turn * third: len(values(plan.topics.predictions)) > enough, f"predictions of slice {turn}", tmp_path)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            running[name].send_signal(signal.SIGKILL)
            running[name].wait()
            running[name] = start()
        until(lambda: len(values(plan.topics.predictions)) >= EVENTS, "all predictions", tmp_path)
        online = RedisOnlineStore(infrastructure.redis_url, plan)
        newest = online.layouts["origin"].features.index("origin_traffic__count_1h")
        until(lambda: online.read_features("origin", ["EWR"]).values[0, newest] == EVENTS, "the last departure in the online store", tmp_path)
        assert online.read_features("origin", ["JFK"]).status == ("missing",)
        # Nothing has landed, so of the aircraft that were asked about nothing is known.
        assert set(online.read_features("aircraft", [f"N{i}" for i in range(50)]).status) == {"missing"}
        online.close()

    schema = (ROOT / "schemas" / "prediction.avsc").read_text()
    predictions = ColumnDecoder(registry, schema).decode(values(plan.topics.predictions)).batch
    vectors = ColumnDecoder(registry, plan.vector_schema).decode(values(plan.topics.vectors)).batch
    expected = Counter(f"f{i}" for i in range(EVENTS))
    assert Counter(predictions.column("request_id").to_pylist()) == expected
    assert Counter(vectors.column("_request_id").to_pylist()) == expected
    assert predictions.column("journal_offset").equals(vectors.column("_journal_offset"))
    assert set(predictions.column("reason").to_pylist()) == {"no_model"}
    hour = vectors.column("origin_traffic__count_1h").to_pylist()
    assert hour == [float(min(i + 1, 3_600)) for i in range(EVENTS)], "counted once each, although features was killed"
    assert not values(plan.topics.rejected) and not values(plan.topics.duplicates)
    reader.close()
