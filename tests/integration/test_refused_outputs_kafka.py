"""Real Kafka: an output that is too large costs its record; an output topic that is away costs time, and no record."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from deploy.embedded.infrastructure import Infrastructure
from shared.observability.settings import RunnerSettings
from shared.streaming.broker import RecordRefusedError, TopicSpec
from shared.streaming.kafka_broker import KafkaBroker
from shared.streaming.records import Records
from shared.streaming.runner import Runner
from tests.property.runner_tasks import CountingTask, arguments, codec, expected, output, topics

DEADLINE_S, LIMIT_BYTES = 60.0, 20_000


class Loud(CountingTask):
    """Says more than its topic takes of some records, in bytes that no compression makes fewer."""

    def _fold(self, records: Records) -> list[bytes]:
        loud = random.Random(1).randbytes(10 * LIMIT_BYTES)
        return [what + (loud if value == b"big" else b"") for what, value in zip(super()._fold(records), records.values, strict=True)]


@pytest.fixture
def stage(infrastructure: Infrastructure, application_name: str, tmp_path: Path) -> tuple[KafkaBroker, Callable[[], Runner]]:
    broker = KafkaBroker(infrastructure.bootstrap_servers, session_timeout_ms=6_000)
    said = TopicSpec(f"{application_name}-output", 1, {"max.message.bytes": str(LIMIT_BYTES)})
    broker.create_topics([said, *(spec for spec in topics(application_name, 1) if spec.name != said.name)])
    settings = RunnerSettings(commit_interval_ms=5, idle_interval_ms=5, state_folder=tmp_path)

    def start() -> Runner:
        return Runner(**arguments(application_name, broker, settings=settings, task_factory=lambda partition: Loud(application_name, partition)))

    return broker, start


def publish(broker: KafkaBroker, topic: str, keys: str, big: tuple[int, ...] = ()) -> None:
    sink = broker.sink()
    for place, key in enumerate(keys):
        sink.publish(topic, key.encode(), b"big" if place in big else b"x", 9, 0)
    sink.close()


@pytest.mark.lasts(10)
def test_records_whose_outputs_are_too_large_cost_one_process_and_themselves(
    stage: tuple[KafkaBroker, Callable[[], Runner]], application_name: str
) -> None:
    broker, start = stage
    keys, big = "abc" * 40, (0, 60, 61)
    publish(broker, f"{application_name}-input", keys, big)
    runner, ends, deadline = start(), list[Exception](), time.monotonic() + DEADLINE_S
    while len(output(broker, f"{application_name}-output")) < len(keys) - len(big):
        assert time.monotonic() < deadline, ends
        try:
            runner.step()
        except RecordRefusedError as problem:
            ends.append(problem)
            runner.close()
            runner = start()
    runner.leave()
    assert output(broker, f"{application_name}-output") == expected(keys, without=big)
    letters: list[dict[str, Any]] = [codec("rejected").decode(value or b"") for value in output(broker, f"{application_name}-rejected")]
    assert [(letter["source_offset"], letter["reason"]) for letter in letters] == [(offset, "quarantined") for offset in big]
    assert all("its outputs cannot be written: RecordRefusedError" in letter["detail"] for letter in letters)
    assert len(ends) == 1


@pytest.mark.lasts(20)
def test_an_output_topic_that_is_away_costs_time_and_no_record(
    stage: tuple[KafkaBroker, Callable[[], Runner]], infrastructure: Infrastructure, application_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker, start = stage
    topic, runner, deadline = f"{application_name}-output", start(), time.monotonic() + DEADLINE_S

    def step_until(condition: Callable[[], bool]) -> None:
        while not condition():
            assert time.monotonic() < deadline, caplog.text[-2_000:]
            runner.step()

    publish(broker, f"{application_name}-input", "ab")
    step_until(lambda: output(broker, topic) == expected("ab"))
    AdminClient({"bootstrap.servers": infrastructure.bootstrap_servers}).delete_topics([topic])[topic].result(DEADLINE_S)
    while broker.partitions(topic):
        assert time.monotonic() < deadline
    publish(broker, f"{application_name}-input", "cab")
    step_until(lambda: "transient error, trying again" in caplog.text)
    broker.create_topics([TopicSpec(topic, 1)])
    step_until(lambda: output(broker, topic) == expected("abcab")[2:])
    runner.leave()
    assert not output(broker, f"{application_name}-rejected")
