"""What the contract tests of brokers do with one."""

import time
from collections.abc import Callable

import numpy as np
from confluent_kafka import TopicPartition as Address
from confluent_kafka.admin import AdminClient

from tests.patience import patient
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.broker import Broker, Source
from tidemill.shared.log.records import Emission, Records, TopicPartition
from tidemill.shared.memory.broker import MemoryBroker

DEADLINE_S = patient(20.0)
# Longer than everything else here lasts: who waits for it is late by far.
SESSION_TIMEOUT_S = patient(30.0)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "condition not met"


def run(topic: str, values: list[bytes], partition: int = 0) -> Emission:
    times = np.arange(len(values), dtype=np.int64) + 1_000
    return Emission(topic, partition, [b"k"] * len(values), values, times)


def publish(broker: Broker, topic: str, values: list[bytes], partition: int = 0) -> None:
    sink = broker.sink()
    sink.publish_run(run(topic, values, partition))
    sink.flush()
    sink.close()


def read(broker: Broker, topic: str, partition: int = 0) -> list[bytes | None]:
    reader = broker.reader()
    values = [value for records in reader.read(TopicPartition(topic, partition), 0) for value in records.values]
    reader.close()
    return values


def collect(source: Source, count: int) -> list[Records]:
    records: list[Records] = []

    def enough() -> bool:
        records.extend(source.consume(1000, 0.05))
        return sum(map(len, records)) >= count

    until(enough)
    return records


def delete_records(broker: Broker, place: TopicPartition, before: int) -> None:
    """Do what retention does."""
    if isinstance(broker, MemoryBroker):
        broker.delete_records(place, before)
        return
    assert isinstance(broker, KafkaBroker)
    admin = AdminClient(broker._connection.settings())
    for done in admin.delete_records([Address(place.topic, place.partition, before)]).values():
        done.result(DEADLINE_S)


def delete_topic(broker: Broker, topic: str) -> None:
    """Do what an administrator does."""
    if isinstance(broker, MemoryBroker):
        broker.delete_topic(topic)
        return
    assert isinstance(broker, KafkaBroker)
    admin = AdminClient(broker._connection.settings())
    admin.delete_topics([topic])[topic].result(DEADLINE_S)
