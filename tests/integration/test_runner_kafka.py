"""The runner on real Kafka: kills, members that come and go, an address where nobody answers."""

import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests import forked
from tests.patience import patient
from tests.property.runner_tasks import arguments, expected, output, topics
from tidemill.deploy.embedded.component import Component, free_port
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.shared.fork_server.process import StartedProcess
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.broker import BrokerUnreachableError
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import Emission, TopicPartition
from tidemill.shared.observability.settings import RunnerSettings
from tidemill.shared.runner.runner import Runner

DEADLINE_S = patient(90.0)
Start = Callable[[str], StartedProcess]


def _has_written(broker: KafkaBroker, topic: str, records: int) -> bool:
    return ends(broker, topic, 1)[0] > records


@pytest.fixture
def broker(infrastructure: Infrastructure) -> KafkaBroker:
    return KafkaBroker(infrastructure.bootstrap_servers, session_timeout_ms=6_000)


@pytest.fixture
def start(infrastructure: Infrastructure, application_name: str, tmp_path: Path, partitions: int) -> Iterator[Start]:
    processes: list[StartedProcess] = []

    def launch(instance: str) -> StartedProcess:
        given = [infrastructure.bootstrap_servers, application_name, str(partitions), instance, str(tmp_path / instance), "6000"]
        process = forked.start("tests.integration.runner_process", *given, log=tmp_path / f"{instance}.log")
        processes.append(process)
        return process

    yield launch
    for process in processes:
        process.kill()
        process.wait()


def publish(broker: KafkaBroker, topic: str, keys: list[str], partition: int) -> None:
    sink = broker.sink()
    sink.publish_run(Emission(topic, partition, [key.encode() for key in keys], [b"x"] * len(keys), np.arange(len(keys), dtype=np.int64)))
    sink.close()


def ends(broker: KafkaBroker, topic: str, partitions: int) -> list[int]:
    reader = broker.reader()
    ends = [reader.watermarks(TopicPartition(topic, number))[1] for number in range(partitions)]
    reader.close()
    return ends


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:.0f} s: {what}"


@pytest.mark.lasts(25)
@pytest.mark.parametrize("partitions", [1])
def test_sigkill_loses_and_doubles_nothing(broker: KafkaBroker, application_name: str, partitions: int, start: Start) -> None:
    broker.create_topics(topics(application_name, partitions))
    rng = random.Random(7)
    keys = [rng.choice("abcdefghij") for _ in range(20_000)]
    kills = 4
    slices = [keys[at : at + len(keys) // (kills + 1)] for at in range(0, len(keys), len(keys) // (kills + 1))]
    process = start("0")
    for share in slices[:kills]:
        seen = ends(broker, f"{application_name}-output", 1)[0]
        publish(broker, f"{application_name}-input", share, 0)
        wait_until(partial(_has_written, broker, f"{application_name}-output", seen), "outputs of the slice")
        process.kill()
        process.wait()
        process = start("0")
    publish(broker, f"{application_name}-input", slices[kills], 0)
    wait_until(lambda: len(output(broker, f"{application_name}-output")) >= len(keys), "all outputs")
    process.terminate()
    assert process.wait(patient(20)) == 0
    assert output(broker, f"{application_name}-output") == expected(keys)


@pytest.mark.lasts(30)
@pytest.mark.parametrize("partitions", [4])
def test_two_instances_share_hand_over_and_take_back(broker: KafkaBroker, application_name: str, partitions: int, start: Start) -> None:
    broker.create_topics(topics(application_name, partitions))
    rng = random.Random(8)
    keys = {number: [rng.choice("abcdef") for _ in range(6_000)] for number in range(partitions)}
    topic, out = f"{application_name}-input", f"{application_name}-output"

    def feed(begin: int, end: int) -> None:
        for number, share in keys.items():
            publish(broker, topic, share[begin:end], number)

    def all_out(count: int) -> bool:
        return all(len(output(broker, out, number)) >= count for number in range(partitions))

    feed(0, 2_000)
    start("0")
    wait_until(lambda: all_out(500), "the first instance works")
    second = start("1")
    feed(2_000, 4_000)
    wait_until(lambda: all_out(4_000), "both instances work")
    second.kill()
    second.wait()
    feed(4_000, 6_000)
    wait_until(lambda: all_out(6_000), "the first instance takes over after the session time-out")
    for number in range(partitions):
        assert output(broker, out, number) == expected(keys[number])


def test_an_address_where_nobody_answers_is_named_within_the_deadline() -> None:
    address = f"127.0.0.1:{free_port()}"
    broker = KafkaBroker(address, deadline_s=2.0)
    begun = time.monotonic()
    with pytest.raises(BrokerUnreachableError, match=f"{address}.*TIDEMILL_KAFKA__BOOTSTRAP_SERVERS"):
        Runner(**arguments("nowhere", broker))
    assert time.monotonic() - begun < patient(10)


@pytest.mark.lasts(20)
def test_a_transactional_client_works_on_after_the_broker_was_killed_and_came_back(own_kafka: Component, application_name: str) -> None:
    """With nothing open at the kill, and in mid-transaction: librdkafka by itself may then wait for ever when it adds the offsets."""
    broker = KafkaBroker(own_kafka.address)
    broker.create_topics(topics(application_name, 1))
    topic, out = f"{application_name}-input", f"{application_name}-output"
    sink = broker.transactional_sink(f"{application_name}-sink")
    sink.open()

    def membership(instance: str) -> object:
        source = broker.source(f"{application_name}-{instance}", instance)
        source.subscribe([topic])
        wait_until(lambda: bool(source.consume(1, 0.1)) or bool(source.assignment.partitions), "an assignment")
        return source.membership()

    def write(value: bytes, member: object) -> None:
        sink.produce(Emission(out, 0, [b"k"], [value]))
        sink.send_offsets({TopicPartition(topic, 0): 0}, member)
        sink.commit()

    sink.begin()
    write(b"before", membership("a"))
    own_kafka.kill()
    own_kafka.start()
    sink.begin()
    write(b"after", membership("b"))
    sink.begin()
    sink.produce(Emission(out, 0, [b"k"], [b"never"]))
    own_kafka.kill()
    own_kafka.start()
    with pytest.raises(TransientError, match="every broker was lost in mid-transaction"):
        sink.send_offsets({TopicPartition(topic, 0): 0}, membership("c"))
    sink.abort()
    sink.begin()
    write(b"at last", membership("d"))
    reader = broker.reader()
    assert [value for records in reader.read(TopicPartition(out, 0), 0) for value in records.values] == [b"before", b"after", b"at last"]


def test_a_broker_that_goes_away_ends_the_runner(own_kafka: Component, application_name: str, tmp_path: Path) -> None:
    broker = KafkaBroker(own_kafka.address, deadline_s=3.0)
    broker.create_topics(topics(application_name, 1))
    publish(broker, f"{application_name}-input", ["a"], 0)
    runner = Runner(**arguments(application_name, broker, settings=RunnerSettings(state_folder=tmp_path)))
    wait_until(lambda: bool(runner.step()), "a first commit")
    own_kafka.kill()
    with pytest.raises(BrokerUnreachableError, match="does not answer"):
        wait_until(lambda: bool(runner.step()) and False, "the end of the runner")
