"""Outputs that their topic does not take, on a real broker: one that is at fault costs its record, a topic that is away costs time."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # the package has no stubs of them
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)

from tests import forked
from tests.integration.fragile_process import LOUD, NOISE
from tests.patience import patient
from tests.property.runner_tasks import codec, expected, output, topics
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.shared.fork_server.process import StartedProcess
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.records import Emission, TopicPartition

DEADLINE_S = patient(90.0)
SLICE, LOUD_AT = 200, 57
# The second partition is the test's own: it shows when a change of the topic's settings has reached the broker.
WORK, PROBE, PARTITIONS = 0, 1, 2


class Stage:
    """A counting stage as a process that is started again whenever it ends, and the topics around it."""

    def __init__(self, servers: Infrastructure, app: str, folder: Path) -> None:
        self.broker = KafkaBroker(servers.bootstrap_servers)
        self.broker.create_topics(topics(app, PARTITIONS))
        self.admin = AdminClient({"bootstrap.servers": servers.bootstrap_servers})
        self.output, self.app, self.ends = f"{app}-output", app, list[int]()
        self._servers, self._log = servers, folder / "log"
        self._given = (servers.bootstrap_servers, app, str(PARTITIONS), str(folder / "state"))
        self.process = self._start()
        self.keys: list[str] = []

    def _start(self) -> StartedProcess:
        return forked.start("tests.integration.fragile_process", *self._given, log=self._log)

    def publish(self, loud: int | None = None) -> None:
        """Publish another slice; `loud` is the place in it of a record of which the stage says very much."""
        keys = ["abcde"[number % 5] for number in range(SLICE)]
        sink = self.broker.sink()
        values = [LOUD if place == loud else b"x" for place in range(SLICE)]
        sink.publish_run(Emission(f"{self.app}-input", WORK, [key.encode() for key in keys], values))
        sink.close()
        self.keys += keys

    def answers(self) -> list[bytes]:
        """Return what is committed of the output, without what makes it long."""
        return [(value or b"").split(b"!")[0] for value in output(self.broker, self.output, WORK)]

    def letters(self) -> list[tuple[int, str, str]]:
        """Return offset, reason and detail of the dead letters."""
        letters = [codec("rejected").decode(value or b"") for value in output(self.broker, f"{self.app}-rejected", WORK)]
        return [(letter["source_offset"], letter["reason"], letter["detail"]) for letter in letters]

    def tries(self, since: int) -> int:
        """How many errors the stage has met since its log was so long."""
        return self._log.read_bytes()[since:].count(b"transient error, trying again")

    def log_bytes(self) -> int:
        """Return how long the log is."""
        return self._log.stat().st_size

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition, and start the process again when it ends."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, (what, self.ends, self._log.read_text()[-3_000:])
            try:
                self.ends.append(self.process.wait(0.1))
                self.process = self._start()
            except subprocess.TimeoutExpired:
                continue

    def alter(self, name: str, value: str) -> None:
        """Change a setting of the output topic."""
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        asked = ConfigResource(ConfigResource.Type.TOPIC, self.output, incremental_configs=[entry])
        self.admin.incremental_alter_configs([asked])[asked].result(30)

    def is_too_large(self, value: bytes) -> bool:
        """Whether the topic takes a value for too large, in the partition that nothing else is written to."""
        codes: list[int] = []
        producer = Producer({"bootstrap.servers": self._servers.bootstrap_servers})
        producer.produce(self.output, value, partition=PROBE, on_delivery=lambda error, _: codes.append(0 if error is None else error.code()))
        producer.flush(patient(30))
        return codes == [KafkaError.MSG_SIZE_TOO_LARGE]


@pytest.fixture
def stage(infrastructure: Infrastructure, application_name: str, tmp_path: Path) -> Iterator[Stage]:
    made = Stage(infrastructure, application_name, tmp_path)
    yield made
    made.process.kill()
    made.process.wait()


@pytest.mark.lasts(20)
@pytest.mark.timeout(300)
def test_an_output_that_no_longer_fits_costs_its_record_and_a_topic_that_is_away_costs_none(stage: Stage) -> None:
    stage.publish(loud=LOUD_AT)
    stage.until(lambda: len(stage.answers()) == SLICE, "the first slice, with an output that fits")
    assert not stage.ends and not stage.letters()

    stage.alter("max.message.bytes", str(len(NOISE) // 2))
    stage.until(lambda: stage.is_too_large(NOISE), "the broker has heard of the lower limit")
    stage.publish(loud=LOUD_AT)
    culprit = SLICE + LOUD_AT
    stage.until(lambda: len(stage.answers()) == 2 * SLICE - 1 and bool(stage.letters()), "everything but the culprit")
    ((offset, reason, detail),) = stage.letters()
    assert (offset, reason) == (culprit, "quarantined") and "its outputs cannot be written: RecordRefusedError" in detail, detail
    assert stage.answers() == expected(stage.keys, without=[culprit])
    assert len(stage.ends) == 1, stage.ends

    since = stage.log_bytes()
    stage.admin.delete_topics([stage.output])[stage.output].result(30)
    stage.until(lambda: stage.broker.partitions(stage.output) == 0, "the topic is gone")
    stage.publish()
    stage.until(lambda: stage.tries(since) > 1, "the stage has noticed, when it wrote and when its state was restored")
    stage.broker.create_topics([TopicSpec(stage.output, PARTITIONS)])
    stage.until(lambda: len(stage.answers()) == SLICE, "what was published while there was no topic")
    assert stage.answers() == expected(stage.keys, without=[culprit])[-SLICE:]
    assert len(stage.letters()) == 1, "what a topic does not take for itself is no record's fault"
    assert len(stage.ends) == 1, stage.ends
    reader = stage.broker.reader()
    assert reader.watermarks(TopicPartition(f"{stage.app}-input", WORK))[1] == len(stage.keys)
    reader.close()
