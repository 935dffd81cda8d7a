"""The compiled side of a producer against `produce` itself, on a broker that librdkafka mocks: the same records, whatever they are."""

import numpy as np
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition, __version__, libversion
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.streaming.bulk_produce import KNOWN, BulkProduce

Row = tuple[bytes | None, bytes | None, int]
rows = st.lists(st.tuples(st.none() | st.binary(max_size=40), st.none() | st.binary(max_size=200), st.integers(0, 1 << 42)), min_size=1, max_size=50)


def test_the_installed_client_is_one_of_the_known_ones() -> None:
    assert {__version__, str(libversion()[0])} <= KNOWN, "look at BulkProduce again, then add the release"


class Topic:
    """A mocked broker with one topic, to write and read."""

    def __init__(self) -> None:
        self.producer = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "linger.ms": 0, "queue.buffering.max.messages": 30})
        self.producer.list_topics(timeout=10)
        server = next(iter(self.producer.list_topics(timeout=10).brokers.values()))
        self.consumer = Consumer({"bootstrap.servers": f"{server.host}:{server.port}", "group.id": "g", "auto.offset.reset": "earliest"})
        self.read = 0

    def records(self, topic: str, count: int) -> list[Row]:
        assert self.producer.flush(20) == 0
        self.consumer.assign([TopicPartition(topic, 1, self.read)])
        found: list[Row] = []
        while len(found) < count:
            messages = self.consumer.consume(count - len(found), 20)
            assert messages and all(message.error() is None for message in messages)
            found += [(message.key(), message.value(), message.timestamp()[1]) for message in messages]
        self.read += count
        return found


@pytest.fixture(scope="module")
def topic() -> Topic:
    return Topic()


@given(given_rows=rows)
@settings(max_examples=50, deadline=None)
def test_every_record_arrives_as_it_was_given_in_order(topic: Topic, given_rows: list[Row]) -> None:
    bulk = BulkProduce.of(topic.producer)
    assert bulk is not None
    keys, values, times = [list(column) for column in zip(*given_rows, strict=True)]
    done = 0
    while done < len(given_rows):  # the queue holds thirty
        done = bulk.produce("t", 1, keys, values, np.array(times), done)
        if done < len(given_rows):
            with pytest.raises(BufferError):
                topic.producer.produce("t", values[done], keys[done], 1)
            topic.producer.flush(20)
    # A timestamp of zero is librdkafka's word for now.
    assert [row[:2] for row in topic.records("t", done)] == [row[:2] for row in given_rows]


def test_timestamps_arrive(topic: Topic) -> None:
    bulk = BulkProduce.of(topic.producer)
    assert bulk is not None
    times = np.array([5, 1_358_424_000_000])
    assert bulk.produce("t", 1, [b"a", b"b"], [b"x", b"y"], times, 0) == 2
    assert topic.records("t", 2) == [(b"a", b"x", 5), (b"b", b"y", 1_358_424_000_000)]


def test_an_unknown_partition_is_refused_and_named_by_produce(topic: Topic) -> None:
    bulk = BulkProduce.of(topic.producer)
    assert bulk is not None
    done = bulk.produce("t", 99, [b"a"], [b"x"], None, 0)
    assert done == 0
