"""Real Kafka: an administrator deletes a group's offsets, then records that were not read yet."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import TopicPartition as Address
from confluent_kafka.admin import AdminClient

from tests.patience import patient
from tests.property.runner_tasks import STAGE, arguments, expected, output, topics
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.broker import OffsetLostError
from tidemill.shared.log.records import Emission, TopicPartition
from tidemill.shared.observability.settings import RunnerSettings
from tidemill.shared.runner.runner import Runner

DEADLINE_S = patient(30.0)


def step_until(runner: Runner, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        runner.step()
        assert time.monotonic() < deadline, "condition not met"


def test_offsets_that_are_gone_are_taken_from_the_progress_record_and_records_that_are_gone_stop_the_stage(
    infrastructure: Infrastructure, application_name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker = KafkaBroker(infrastructure.bootstrap_servers, session_timeout_ms=6_000)
    broker.create_topics(topics(application_name, 1))
    admin = AdminClient({"bootstrap.servers": infrastructure.bootstrap_servers})
    place, group = TopicPartition(f"{application_name}-input", 0), f"{application_name}-{STAGE}"
    keys: list[str] = []

    def publish(text: str) -> None:
        sink = broker.sink()
        sink.publish_run(Emission(*place, [key.encode() for key in text], [b"x"] * len(text), np.arange(len(text), dtype=np.int64)))
        sink.close()
        keys.extend(text)

    def start() -> Runner:
        return Runner(**arguments(application_name, broker, settings=RunnerSettings(commit_interval_ms=5, idle_interval_ms=5, state_folder=tmp_path)))

    def answer(runner: Runner) -> None:
        step_until(runner, lambda: output(broker, f"{application_name}-output") == expected(keys))

    first = start()
    publish("abcab")
    answer(first)
    first.leave()
    admin.delete_consumer_groups([group])[group].result(DEADLINE_S)
    second = start()
    publish("bz")
    answer(second)
    assert "offsets are gone" in caplog.text
    second.leave()
    source = broker.source(group, "looks")
    assert source.committed([place]) == {place: 7}
    source.close()
    publish("cc")
    admin.delete_records([Address(*place, 8)])[Address(*place, 8)].result(DEADLINE_S)
    third = start()
    with pytest.raises(OffsetLostError, match=rf"{place.topic}:0: .*wants offset \d, the log holds \[8, 9\).*deleted.*bring the records back"):
        step_until(third, lambda: False)
    third.leave()
