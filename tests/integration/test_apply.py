"""A run on real servers takes over a changed view and an added model while requests come; each is answered once by each model."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests import forked
from tests.integration.meters import write_application
from tests.patience import patient
from tidemill.audit.audit_run import audit_run
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.planning.apply import apply, follow_changes
from tidemill.planning.make_plan import make_plan
from tidemill.planning.running_application import of_run
from tidemill.runs.application_copy import keep_application
from tidemill.runs.change_desk import ChangeDesk, ChangeRefusedError
from tidemill.runs.command_channel import KEY_FILE
from tidemill.runs.instance import Instance
from tidemill.runs.kafka_clients import connect
from tidemill.runs.pipeline import pipeline_environment, stage_spec
from tidemill.runs.running import Running
from tidemill.runs.settings import CommandSettings
from tidemill.runs.supervisor import Supervisor
from tidemill.runs.topics import create_topics
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.observability.secret_file import secret_file
from tidemill.shared.service.stage import FUSED

DEADLINE_S = patient(120.0)
SECOND = """  worn:
    ask: readings
    features: [kwh]
    label: {stream: faults, join: reading_id, value: faulty, max_delay: 2h}
    fallback: {default: 0.3}
"""
FILTERED = ("use: {entity: meter, source: readings, value: kwh,", 'use: {entity: meter, source: readings, where: "kwh > 5", value: kwh,')


@contextmanager
def running(application: Path, folder: Path, infrastructure: Infrastructure) -> Iterator[Running]:
    """The prediction path and outcomes as `tidemill up` runs them, under its supervisor; the other services would only take time here."""
    content = keep_application(application, folder)
    environment = pipeline_environment(content, infrastructure, folder, "live", CommandSettings(topology=FUSED))
    secret_file(folder / KEY_FILE)
    create_topics(load_plan(application), connect(CommandSettings().kafka_at(infrastructure.bootstrap_servers)))
    Instance.of_this_process(application, content, "live", infrastructure, None, folder).write(folder)
    supervisor = Supervisor(folder / "logs", environment, server=forked.server())
    supervisor.start([stage_spec(stage, environment) for stage in (FUSED, "outcomes")])
    try:
        yield Running(infrastructure, supervisor, "", FUSED)
    finally:
        supervisor.stop()


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.5)


@pytest.mark.timeout(400)
@pytest.mark.lasts(52)
def test_a_run_takes_over_a_changed_application_while_requests_come(application_name: str, infrastructure: Infrastructure, tmp_path: Path) -> None:
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
        assert producer.flush(patient(30)) == 0
        published += count

    def answers() -> Counter[tuple[str, str]]:
        reader = broker.reader()
        values = [value for p in range(2) for run_ in reader.read(TopicPartition(plan.topics.predictions, p), 0) for value in run_.values if value]
        reader.close()
        return Counter((one["model"], one["request_id"]) for one in map(codec.decode, values))

    def answered(model: str) -> int:
        return sum(1 for name, _ in answers() if name == model)

    run.mkdir(parents=True)
    with running(application, run, infrastructure) as servers, ChangeDesk(run).opened() as desk:

        def goes_on() -> bool:
            servers.supervisor.check()
            if published < 400:
                publish(1)  # Requests come while services are ended and started again.
            return True

        publish(200)
        until(lambda: answered("faulty") == 200, "predictions before the change")
        text = (application / "app.yaml").read_text()
        assert text.count(FILTERED[0]) == 1
        (application / "app.yaml").write_text(text.replace(*FILTERED) + SECOND)
        planned = make_plan(of_run(run), application, measured=False)
        assert planned.verdict == "changes" and planned.backfill.records and planned.backfill.records > 200
        with ThreadPoolExecutor(1) as pool:
            applying = pool.submit(apply, run, application, json.dumps(planned.as_json()))
            end = time.monotonic() + DEADLINE_S
            while not applying.done() and time.monotonic() < end:
                follow_changes(desk, run, servers, goes_on, lambda line: None)
                time.sleep(0.05)
            assert applying.result(1).verdict == "changes"
        publish(100)
        until(lambda: answered("faulty") == published, "every request by the model that stayed")
        with pytest.raises(ChangeRefusedError, match="is not what the plan was made for"):
            apply(run, application, json.dumps(planned.as_json()))
        assert make_plan(of_run(run), application).verdict == "nothing"
        assert servers.supervisor.restarts() == {FUSED: 0, "outcomes": 0}

    counted = answers()
    assert set(counted.values()) == {1}
    assert {request for model, request in counted if model == "faulty"} == {f"r{i}" for i in range(published)}
    worn = {request for model, request in counted if model == "worn"}
    assert {f"r{i}" for i in range(published - 100, published)} <= worn and not worn & {f"r{i}" for i in range(200)}
    audited = audit_run(load_plan(application), run, dict(infrastructure.environment), str(run / "artifacts"))
    assert audited.result.clean and audited.covered > 0, audited.result.examples
    assert audited.result.vectors_compared == published and audited.result.predictions_compared == published + len(worn)
