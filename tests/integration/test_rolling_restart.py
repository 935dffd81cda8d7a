"""Two instances are restarted one after the other under load: each ends at once, and its partitions go on with the other."""

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests import forked
from tests.patience import patient
from tests.property.runner_tasks import STAGE, expected, topics
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.shared.fork_server.process import StartedProcess
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.records import TopicPartition

PARTITIONS, KEYS = 4, "abcde"
# What a member that only falls silent would cost. The bounds below are loose, as the machine is busy with other tests; the strict ones
# (5 s to stop, no pause above 3 s) are those of `campaigns.rolling_restart`.
SESSION_TIMEOUT_MS = int(1_000 * patient(60.0))
STOP_S, PAUSE_S, DEADLINE_S = patient(20.0), patient(40.0), patient(60.0)


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"not within {DEADLINE_S:.0f} s: {what}"
        time.sleep(0.1)


class Load:
    """Publishes a record to every partition every few milliseconds until it is told to stop."""

    def __init__(self, broker: KafkaBroker, topic: str) -> None:
        self._broker, self._topic = broker, topic
        self._stop = threading.Event()
        self.sent = 0
        self._thread = threading.Thread(target=self._publish)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _publish(self) -> None:
        sink = self._broker.sink()
        while not self._stop.wait(0.02):
            for partition in range(PARTITIONS):
                sink.publish(self._topic, KEYS[self.sent % len(KEYS)].encode(), b"x", time.time_ns() // 1_000_000, partition)
            self.sent += 1
        sink.flush()
        sink.close()


@pytest.fixture
def start(infrastructure: Infrastructure, application_name: str, tmp_path: Path) -> Iterator[Callable[[str], StartedProcess]]:
    running: list[StartedProcess] = []

    def launch(instance: str) -> StartedProcess:
        given = [infrastructure.bootstrap_servers, application_name, str(PARTITIONS), instance, str(tmp_path / instance), str(SESSION_TIMEOUT_MS)]
        running.append(forked.start("tests.integration.runner_process", *given, log=tmp_path / f"{instance}.log"))
        return running[-1]

    yield launch
    for process in running:
        process.kill()
        process.wait()


@pytest.mark.lasts(20)
def test_a_rolling_restart_pauses_no_partition_for_the_session_time_out(
    infrastructure: Infrastructure, application_name: str, start: Callable[[str], StartedProcess]
) -> None:
    broker = KafkaBroker(infrastructure.bootstrap_servers)
    broker.create_topics(topics(application_name, PARTITIONS))
    topic, out = f"{application_name}-input", f"{application_name}-output"
    reader = broker.reader()

    def written(partition: int) -> list[tuple[bytes | None, int]]:
        runs = reader.read(TopicPartition(out, partition), 0)
        return [pair for records in runs for pair in zip(records.values, records.timestamps_ms.tolist(), strict=True)]

    def goes_on(load: Load) -> None:
        """Wait until what was sent by now is answered in every partition."""
        sent = load.sent
        until(lambda: all(len(written(partition)) >= sent for partition in range(PARTITIONS)), "answers in every partition")

    def shared_by_two(load: Load) -> None:
        """Wait until both instances work."""
        admin, group = AdminClient({"bootstrap.servers": infrastructure.bootstrap_servers}), f"{application_name}-{STAGE}"

        def shares() -> list[int]:
            try:
                description = admin.describe_consumer_groups([group], request_timeout=patient(5))[group].result()
            except KafkaException:  # The group's coordinator is still being made.
                return []
            return [len(member.assignment.topic_partitions) for member in description.members]

        until(lambda: shares() == [PARTITIONS // 2] * 2, "half of the partitions for each instance")
        goes_on(load)

    with Load(broker, topic) as load:
        running = {instance: start(instance) for instance in ("0", "1")}
        shared_by_two(load)
        for instance in ("0", "1"):
            running[instance].send_signal(signal.SIGTERM)
            asked = time.monotonic()
            assert running[instance].wait(STOP_S) == 0
            assert time.monotonic() - asked < STOP_S
            goes_on(load)  # by the other alone
            running[instance] = start(instance)
            shared_by_two(load)
    published = {
        partition: [time_ms for records in reader.read(TopicPartition(topic, partition), 0) for time_ms in records.timestamps_ms.tolist()]
        for partition in range(PARTITIONS)
    }
    goes_on(load)
    keys = [KEYS[number % len(KEYS)] for number in range(load.sent)]
    for partition, sent_ms in published.items():
        answers = written(partition)
        assert [value for value, _ in answers] == expected(keys), "every record once, in order"
        offsets = [int(re.split(b"@", value or b"")[1]) for value, _ in answers]
        waited_ms = [answered_ms - sent_ms[offset] for offset, (_, answered_ms) in zip(offsets, answers, strict=True)]
        assert max(waited_ms[len(waited_ms) // 10 :]) < PAUSE_S * 1_000
    reader.close()
