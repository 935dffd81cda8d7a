"""A run of `tidemill up` on real servers takes over a changed view and an added model while requests come; each is answered once by each model."""

import json
import os
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

from tests.integration.meters import write_application
from tidemill.audit.audit_run import audit_run
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.records import TopicPartition

ROOT = Path(__file__).parents[2]
DEADLINE_S = 120.0
SECOND = """  worn:
    ask: readings
    features: [kwh]
    label: {stream: faults, join: reading_id, value: faulty, max_delay: 2h}
    fallback: {default: 0.3}
"""
FILTERED = ("use: {entity: meter, source: readings, value: kwh,", 'use: {entity: meter, source: readings, where: "kwh > 5", value: kwh,')


def tidemill(*words: str | Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tidemill", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env={**environment, "COLUMNS": "200"}, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


@contextmanager
def up(application: Path, folder: Path, environment: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    with (folder / "up.log").open("wb") as log:
        command = [sys.executable, "-m", "tidemill", "up", str(application), "--folder", str(folder / "runs")]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


@pytest.mark.timeout(400)
@pytest.mark.lasts(60)
def test_a_run_takes_over_a_changed_application_while_requests_come(application_name: str, infrastructure: Infrastructure, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDEMILL_")} | dict(infrastructure.environment)
    application = write_application(tmp_path / "application", application_name)
    run, plan = tmp_path / "runs" / application_name, load_plan(application)
    broker, registry = KafkaBroker(infrastructure.bootstrap_servers), ConfluentSchemaRegistry(infrastructure.registry_url)
    producer = Producer({"bootstrap.servers": infrastructure.bootstrap_servers, "partitioner": "murmur2_random"})
    codec = message_codec(registry, plan.topics.predictions, "prediction")
    published = 0

    def publish(count: int) -> None:
        nonlocal published
        for i in range(published, published + count):
            meter = f"m{i % 7}"
            event = {"reading_id": f"r{i}", "meter": meter, "read_at": time.time_ns() // 1_000_000, "kwh": float(i % 10)}
            producer.produce(plan.topics.raw[0], json.dumps(event).encode(), meter)
        assert producer.flush(30) == 0
        published += count

    def answers() -> Counter[tuple[str, str]]:
        reader = broker.reader()
        values = [value for p in range(2) for run_ in reader.read(TopicPartition(plan.topics.predictions, p), 0) for value in run_.values if value]
        reader.close()
        return Counter((one["model"], one["request_id"]) for one in map(codec.decode, values))

    def answered(model: str) -> int:
        return sum(1 for name, _ in answers() if name == model)

    with up(application, tmp_path, environment) as process:
        until(lambda: (run / "changes" / "open.json").is_file() or process.poll() is not None, "the run")
        assert process.poll() is None, (tmp_path / "up.log").read_text()
        publish(200)
        until(lambda: answered("faulty") == 200, "predictions before the change")

        text = (application / "app.yaml").read_text()
        assert text.count(FILTERED[0]) == 1
        (application / "app.yaml").write_text(text.replace(*FILTERED) + SECOND)
        planned = tidemill("plan", application, "--run", run, "--json", "--no-backtest", environment=environment)
        assert planned.returncode == 10, planned.stderr
        (tmp_path / "plan.json").write_text(planned.stdout)
        command = [sys.executable, "-m", "tidemill", "apply", str(application), "--run", str(run), "--plan", str(tmp_path / "plan.json")]
        applying = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        while applying.poll() is None:
            publish(5)
            time.sleep(0.1)
        assert applying.returncode == 0, applying.communicate()[0] + (tmp_path / "up.log").read_text()
        publish(100)
        until(lambda: answered("faulty") == published, "every request by the model that stayed")
        assert process.poll() is None

    counted = answers()
    assert set(counted.values()) == {1}
    assert {request for model, request in counted if model == "faulty"} == {f"r{i}" for i in range(published)}
    worn = {request for model, request in counted if model == "worn"}
    assert {f"r{i}" for i in range(published - 100, published)} <= worn and not worn & {f"r{i}" for i in range(200)}
    audited = audit_run(load_plan(application), run, dict(infrastructure.environment), str(run / "artifacts"))
    assert audited.result.clean and audited.covered > 0, audited.result.examples
    assert audited.result.vectors_compared == published and audited.result.predictions_compared == published + len(worn)
