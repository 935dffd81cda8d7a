"""A server beside Kafka that is away is waited for, and a stage that waits is not ready until it has got past what it waited with."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from tests.property.runner_tasks import APP, STAGE, CountingTask, arguments, expected, output
from tests.unit.shared.runner.runners import OUTPUT, filled, quick, steps
from tidemill.shared.log.errors import ServerAwayError
from tidemill.shared.log.records import Records, Step, TopicPartition
from tidemill.shared.memory.clients import MemorySource
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import StepContext


class Waiting(CountingTask):
    """Needs a server that answers when it has been asked often enough."""

    asked = 0

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        if inputs and type(self).asked < 300:
            type(self).asked += 1
            raise ServerAwayError("registry away")
        return super().process(inputs, context)


def test_a_server_beside_kafka_is_waited_for_however_long_it_is_away(tmp_path: Path) -> None:
    Waiting.asked = 0
    broker, health = filled("abcab"), ProcessHealth()
    runner = Runner(**arguments(APP, broker, settings=quick(tmp_path, retries=4), task_factory=lambda p: Waiting(APP, p)), health=health)
    steps(runner, 220)
    advances = health.advances
    steps(runner)
    # Live, so that nobody restarts it, and not ready; the probes say what for.
    assert (health.live, health.ready, health.troubles) == (True, False, {"waiting for a server": "registry away"})
    assert health.advances > advances
    steps(runner, 100)
    assert (health.ready, health.troubles) == (True, {})
    assert output(broker, OUTPUT) == expected("abcab")


@pytest.fixture
def hesitant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources that give nothing at first when they have been assigned anew, as Kafka's client."""
    assign, consume = MemorySource.assign, MemorySource.consume
    hesitating: set[MemorySource] = set()

    def assign_anew(source: MemorySource, positions: Mapping[TopicPartition, int]) -> None:
        hesitating.add(source)
        assign(source, positions)

    def consume_later(source: MemorySource, max_records: int, timeout_s: float, linger_s: float = 0.0) -> list[Records]:
        if source in hesitating:
            hesitating.discard(source)
            return []
        return consume(source, max_records, timeout_s, linger_s)

    monkeypatch.setattr(MemorySource, "assign", assign_anew)
    monkeypatch.setattr(MemorySource, "consume", consume_later)


@pytest.mark.usefixtures("hesitant")
def test_between_two_tries_a_stage_that_waits_for_a_server_is_not_ready_and_waits_longer_each_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Waiting.asked = 290
    broker, health, registry = filled("abcab"), ProcessHealth(), CollectorRegistry()
    settings = quick(tmp_path, backoff_initial_ms=1, backoff_max_ms=4)
    runner = Runner(
        **arguments(APP, broker, settings=settings, task_factory=lambda p: Waiting(APP, p)), health=health, metrics=Metrics(STAGE, registry)
    )
    while Waiting.asked < 292:
        steps(runner, 1)
    shown = set()
    while Waiting.asked < 300:
        steps(runner, 1)
        shown.add((health.live, health.ready, tuple(health.troubles), registry.get_sample_value("tidemill_ready", {"stage": STAGE})))
    assert shown == {(True, False, ("waiting for a server",), 0.0)}
    assert [record.__dict__["wait_ms"] for record in caplog.records if "trying again" in record.message][:4] == [1, 2, 4, 4]
    steps(runner)
    assert (health.ready, health.troubles, registry.get_sample_value("tidemill_ready", {"stage": STAGE})) == (True, {}, 1.0)
    assert output(broker, OUTPUT) == expected("abcab")
