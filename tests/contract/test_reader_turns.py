"""A reader may be asked for a second stretch while the first is still being read: a backlog is, while child processes try what it holds."""

from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from tidemill.shared.kafka import reader as kafka_reader
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.records import TopicPartition


@pytest.fixture
def broker() -> Iterator[KafkaBroker]:
    """A broker that librdkafka mocks, with 30 records in each of two topics."""
    client = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1})
    for number in range(30):
        for topic in ("one", "two"):
            client.produce(topic, b"%d" % number, partition=0)
    client.flush(30)
    (server,) = client.list_topics(timeout=10).brokers.values()
    yield KafkaBroker(f"{server.host}:{server.port}", deadline_s=30)
    client.flush(1)


def test_two_stretches_are_read_in_turns(broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_reader, "CHUNK", 10)
    reader = broker.reader()
    one, two = TopicPartition("one", 0), TopicPartition("two", 0)
    outer: list[bytes | None] = []
    for records in reader.read(one, 0, 30):
        outer += records.values
        assert [value for inner in reader.read(two, 5, 25) for value in inner.values] == [b"%d" % number for number in range(5, 25)]
    assert outer == [b"%d" % number for number in range(30)]
    reader.close()
