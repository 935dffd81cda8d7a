"""The flights through services of their own on real Kafka and a real registry: how they are started, fed and read."""

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from confluent_kafka import Producer

from tests import forked
from tests.patience import patient
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.fork_server.process import StartedProcess
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.heartbeat import HEARTBEAT_KEY
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.log.topics import catalogue_topics

ROOT = Path(__file__).parents[2]
NOON = 1_358_424_000_000
STREAMS = ("departures", "arrivals", "weather")
PREDICTION = (ROOT / "schemas" / "prediction.avsc").read_text()


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
def service(name: str, application: Path, infrastructure: Infrastructure, folder: Path) -> Iterator[Callable[[], StartedProcess]]:
    """Give a function that starts the service (again); ends it at the end."""
    running: list[StartedProcess] = []
    environment = {
        **os.environ, **infrastructure.environment, "TIDEMILL_APPLICATION": str(application), "TIDEMILL_INGESTION__CLOCK": "replay",
        "TIDEMILL_ARTIFACTS__URI": str(folder / "artifacts"), "TIDEMILL_RUNNER__STATE_FOLDER": str(folder / "state"),
    }  # fmt: skip

    def start() -> StartedProcess:
        running.append(forked.start(f"tidemill.services.{name}", environment=environment, log=folder / f"{name}.log"))
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


class FlightsTopics:
    """The topics of a flights application of its own name: departures go in, vectors and predictions come out."""

    def __init__(self, application: Path, infrastructure: Infrastructure) -> None:
        self.plan = load_plan(application)
        self.broker = KafkaBroker(infrastructure.bootstrap_servers)
        self.registry = ConfluentSchemaRegistry(infrastructure.registry_url)
        self.broker.create_topics([*catalogue_topics(self.plan.application.app, 1), *(TopicSpec(topic) for topic in self.plan.topics.raw)])
        self.reader = self.broker.reader()
        self._producer = Producer({"bootstrap.servers": infrastructure.bootstrap_servers})

    def values(self, topic: str) -> list[bytes]:
        return [value for records in self.reader.read(TopicPartition(topic, 0), 0) for value in records.values if value is not None]

    def publish(self, begin: int, end: int) -> None:
        """Publish departures, and say on every stream that time has gone on."""
        for i in range(begin, end):
            self._producer.produce(self.plan.streams["departures"].topic, departure(i), f"f{i}".encode(), timestamp=NOON + i * 1_000)
        for stream in STREAMS:
            self._producer.produce(self.plan.streams[stream].topic, None, HEARTBEAT_KEY, timestamp=NOON + end * 1_000)
        assert self._producer.flush(patient(30)) == 0

    def answers(self, count: int) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """Return predictions and vectors, each of the first `count` requests once."""
        predictions = ColumnDecoder(self.registry, PREDICTION).decode(self.values(self.plan.topics.predictions)).batch
        vectors = ColumnDecoder(self.registry, self.plan.vector_schema).decode(self.values(self.plan.topics.vectors)).batch
        expected = Counter(f"f{i}" for i in range(count))
        assert Counter(predictions.column("request_id").to_pylist()) == expected
        assert Counter(vectors.column("_request_id").to_pylist()) == expected
        assert predictions.column("journal_offset").equals(vectors.column("_journal_offset"))
        hour = vectors.column("origin_traffic__count_1h").to_pylist()
        assert hour == [float(min(i + 1, 3_600)) for i in range(count)], "counted once each, whoever was killed"
        return predictions, vectors
