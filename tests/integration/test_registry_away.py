"""Real processes whose schema registry is away wait for it, or go on without it: none ends, and the supervisor starts none again."""

import json
import logging
import os
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
from confluent_kafka import Producer

from tests import forked, patience
from tests.integration.meters import READING, record, write_application
from tests.late_registry import LateRegistry
from tests.tcp_gate import TcpGate
from tidemill.deploy.embedded.component import free_port
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.runs.supervisor import ServiceSpec, Supervisor
from tidemill.runs.topics import create_topics
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder, ColumnEncoder
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.broker import Reader, TopicSpec
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.log.topics import CATALOGUE

SERVICES = ("control", "alerts")
# Two minutes are tried by hand: TIDEMILL_TEST_AWAY_S=120, with --log-cli-level=INFO for the figures.
AWAY_S = float(os.environ.get("TIDEMILL_TEST_AWAY_S", "15"))
ROUND = 20
log = logging.getLogger(__name__)


def until(condition: Callable[[], bool], supervisor: Supervisor) -> None:
    patience.until(condition, lambda: str([supervisor.log_tail(name, 5) for name in supervisor.pids()]), check=supervisor.check)


def probe(port: int, what: str) -> tuple[int, dict[str, Any]]:
    """Return what a process says of itself; 0 of one that is not there."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{what}", timeout=patience.patient(30)) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as problem:
        return problem.code, json.loads(problem.read())
    except OSError:
        return 0, {}


@pytest.mark.lasts(15)
@pytest.mark.timeout(180)
def test_services_that_start_without_a_registry_wait_for_it(infrastructure: Infrastructure, application_name: str, tmp_path: Path) -> None:
    folder = write_application(tmp_path / "app", application_name)
    KafkaBroker(infrastructure.bootstrap_servers).create_topics([TopicSpec(f"{application_name}-readings", 2)])
    ports = {name: free_port() for name in SERVICES}
    with LateRegistry() as registry:
        environment = {
            "TIDEMILL_APPLICATION": str(folder),
            "TIDEMILL_KAFKA__BOOTSTRAP_SERVERS": infrastructure.bootstrap_servers,
            "TIDEMILL_REGISTRY__URL": registry.url,
            "TIDEMILL_RUNNER__STATE_FOLDER": str(tmp_path / "state"),
        }
        supervisor = Supervisor(tmp_path / "logs", environment, crash_limit=1, server=forked.server())
        specs = [ServiceSpec(name, f"tidemill.services.{name}", {"TIDEMILL_HEALTH__PORT": str(port)}) for name, port in ports.items()]
        try:
            supervisor.start(specs)
            until(lambda: all("starting" in probe(port, "ready")[1].get("troubles", {}) for port in ports.values()), supervisor)
            assert all(probe(port, "live")[0] == 200 and probe(port, "ready")[0] == 503 for port in ports.values())
            registry.answers.set()
            until(lambda: all(probe(port, "ready")[0] == 200 for port in ports.values()), supervisor)
            assert supervisor.restarts() == dict.fromkeys(SERVICES, 0)
            assert all("waiting for a server" in supervisor.log_tail(name, 200) for name in SERVICES)
        finally:
            supervisor.stop()


@pytest.mark.lasts(30)
@pytest.mark.timeout(180 + 2 * AWAY_S)
def test_what_runs_goes_on_without_a_registry_until_a_schema_is_new_and_what_starts_waits(
    infrastructure: Infrastructure, application_name: str, tmp_path: Path
) -> None:
    folder = write_application(tmp_path / "app", application_name)
    plan, broker = load_plan(folder), KafkaBroker(infrastructure.bootstrap_servers)
    create_topics(plan, broker)
    topic = plan.streams["readings"].topic
    address = urlsplit(infrastructure.registry_url)
    # The test has the registry always; the services go through the gate.
    registry, reader = ConfluentSchemaRegistry(infrastructure.registry_url), broker.reader()
    newer = record("Reading", [*READING, ("tariff", ["null", "string"])]).replace('["null", "string"]}', '["null", "string"], "default": null}')
    known, unknown = (
        ColumnEncoder(registry, f"{application_name}-{name}", schema) for name, schema in (("a", record("Reading", READING)), ("b", newer))
    )
    decoder = ColumnDecoder(registry, (CATALOGUE.parent / "prediction.avsc").read_text())
    producer = Producer({"bootstrap.servers": infrastructure.bootstrap_servers, "partitioner": "murmur2_random"})
    sent: list[str] = []

    def publish(encoder: ColumnEncoder, name: str) -> None:
        now = time.time_ns() // 1_000_000
        rows: list[dict[str, Any]] = [{"reading_id": f"{name}-{i}", "meter": f"m{i}", "read_at": now, "kwh": 1.0} for i in range(ROUND)]
        values = encoder.encode(pa.RecordBatch.from_pylist(rows, schema=encoder.arrow))
        for row, value in zip(rows, values, strict=True):
            producer.produce(topic, value, row["meter"])
        assert producer.flush(patience.patient(30)) == 0
        sent.extend(row["reading_id"] for row in rows)

    def answers() -> Counter[str]:
        counts: Counter[str] = Counter()
        for partition in range(2):
            for records in reader.read(TopicPartition(plan.topics.predictions, partition), 0):
                counts.update(decoder.decode([value for value in records.values if value is not None]).batch.column("request_id").to_pylist())
        return counts

    def answered() -> bool:
        return answers().total() >= len(sent)

    with TcpGate(address.hostname or "", address.port or 80) as gate:
        ports = {"fused": free_port(), "outcomes": free_port()}
        environment = {
            **infrastructure.environment,
            "TIDEMILL_APPLICATION": str(folder),
            "TIDEMILL_REGISTRY__URL": f"http://127.0.0.1:{gate.port}{address.path}",
            "TIDEMILL_RUNNER__STATE_FOLDER": str(tmp_path / "state"),
            "TIDEMILL_LAKE__URI": str(tmp_path / "lake"),
            "TIDEMILL_ARTIFACTS__URI": str(tmp_path / "artifacts"),
        }
        supervisor = Supervisor(tmp_path / "logs", environment, crash_limit=1, server=forked.server())

        def spec(name: str) -> ServiceSpec:
            return ServiceSpec(name, f"tidemill.services.{name}", {"TIDEMILL_HEALTH__PORT": str(ports[name])})

        try:
            supervisor.start([spec("fused")])
            publish(known, "before")
            until(answered, supervisor)

            gate.shut()
            gone = time.monotonic()
            supervisor.start([spec("outcomes")])
            until(lambda: "starting" in probe(ports["outcomes"], "ready")[1].get("troubles", {}), supervisor)
            rounds: list[float] = []
            while not rounds or time.monotonic() < gone + AWAY_S / 2:
                begun = time.monotonic()
                publish(known, f"known-{len(rounds)}")
                until(answered, supervisor)
                rounds.append(time.monotonic() - begun)
            served = len(sent)
            publish(unknown, "new")
            until(lambda: "waiting for a server" in probe(ports["fused"], "ready")[1].get("troubles", {}), supervisor)
            while time.monotonic() < gone + AWAY_S:
                said = {name: (probe(port, "live")[0], probe(port, "ready")) for name, port in ports.items()}
                assert all((live, ready) == (200, 503) for live, (ready, _) in said.values()), said
                supervisor.check()
                time.sleep(0.1)
            publish(known, "behind")
            assert answers().total() == served, "records of a schema that nobody could ask for wait, and what comes behind them"

            gate.open()
            back = time.monotonic()
            until(answered, supervisor)
            caught_up_s = time.monotonic() - back
            until(lambda: all(probe(port, "ready")[0] == 200 for port in ports.values()), supervisor)
            assert answers() == Counter(sent), "each request has one answer"
            assert is_empty(reader, plan.topics.rejected) and is_empty(reader, plan.topics.duplicates)
            assert supervisor.restarts() == dict.fromkeys(ports, 0)
            figures = f"{len(rounds)} rounds of {ROUND}, slowest answered in {max(rounds):.2f} s; all answered {caught_up_s:.1f} s after the return"
            log.info("%.0f s away: %s, all ready after %.1f s", AWAY_S, figures, time.monotonic() - back)
        finally:
            supervisor.stop()
            reader.close()


def is_empty(reader: Reader, topic: str) -> bool:
    return not any(len(records) for partition in range(2) for records in reader.read(TopicPartition(topic, partition), 0))
