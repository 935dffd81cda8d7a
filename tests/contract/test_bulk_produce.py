"""The compiled side of a producer against `produce` itself, on a broker that librdkafka mocks: the same records, whatever they are."""

import time

import numpy as np
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition, __version__, libversion
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.patience import patient
from tidemill.shared.kafka.bulk_produce import BulkProduce, RefusedError, Room
from tidemill.shared.kafka.librdkafka import KNOWN
from tidemill.shared.log.packed import packed_or_list
from tidemill.shared.log.records import Emission

ROOM = Room(messages=30, bytes=1 << 30, message_bytes=1_000_000)
Row = tuple[bytes | None, bytes | None, int]
rows = st.lists(st.tuples(st.none() | st.binary(max_size=40), st.none() | st.binary(max_size=200), st.integers(1, 1 << 42)), min_size=1, max_size=50)


def test_the_installed_client_is_one_of_the_known_ones() -> None:
    assert {__version__, str(libversion()[0])} <= KNOWN, "look at BulkProduce again, then add the release"


class Topic:
    """A mocked broker with one topic, to write and read."""

    def __init__(self) -> None:
        self.producer = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "linger.ms": 0, "queue.buffering.max.messages": 30})
        self.producer.list_topics(timeout=patient(10))
        server = next(iter(self.producer.list_topics(timeout=patient(10)).brokers.values()))
        settings = {"bootstrap.servers": f"{server.host}:{server.port}", "group.id": "g", "auto.offset.reset": "earliest"}
        self.consumer = Consumer({**settings, "fetch.wait.max.ms": 20})  # the mock holds a fetch back as long as it may
        self.read = 0

    def records(self, topic: str, count: int) -> list[Row]:
        assert self.producer.flush(patient(20)) == 0
        self.consumer.assign([TopicPartition(topic, 1, self.read)])
        read: list[Row] = []
        while len(read) < count:
            messages = self.consumer.consume(count - len(read), 20)
            assert messages and all(message.error() is None for message in messages)
            read += [(message.key(), message.value(), message.timestamp()[1]) for message in messages]
        self.read += count
        return read


@pytest.fixture(scope="module")
def topic() -> Topic:
    return Topic()


@given(given_rows=rows)
@settings(max_examples=50, deadline=None)
def test_every_record_arrives_as_it_was_given_in_order(topic: Topic, given_rows: list[Row]) -> None:
    bulk = BulkProduce.of(topic.producer, ROOM)
    assert bulk is not None
    keys, values, times = [list(column) for column in zip(*given_rows, strict=True)]
    run, done = Emission("t", 1, keys, values, np.array(times)), 0
    while done < len(run):  # the queue holds thirty
        done = bulk.produce(run, done, len(run))
        if done < len(run):
            with pytest.raises(BufferError):
                topic.producer.produce("t", values[done], keys[done], 1)
            topic.producer.flush(patient(20))
    assert topic.records("t", done) == given_rows


def test_a_stretch_of_a_run_is_queued(topic: Topic) -> None:
    bulk = BulkProduce.of(topic.producer, ROOM)
    assert bulk is not None
    run = Emission("t", 1, [b"a", b"b", b"c", b"d"], [b"1", b"2", b"3", b"4"], np.array([1, 2, 3, 4]))
    assert bulk.produce(run, 1, 3) == 3
    assert topic.records("t", 2) == [(b"b", b"2", 2), (b"c", b"3", 3)]


@given(given_rows=st.lists(st.tuples(st.none() | st.binary(max_size=40), st.none() | st.binary(max_size=200)), min_size=1, max_size=50))
@settings(max_examples=50, deadline=None)
def test_records_without_timestamps_arrive_in_order_however_they_are_packed(
    topic: Topic, given_rows: list[tuple[bytes | None, bytes | None]]
) -> None:
    bulk = BulkProduce.of(topic.producer, ROOM)
    assert bulk is not None
    keys, values = [packed_or_list(list(column)) for column in zip(*given_rows, strict=True)]
    run, done = Emission("t", 1, keys, values), 0
    while done < len(run):
        done = bulk.produce(run, done, min(len(run), done + 10))
        topic.producer.flush(patient(20))
    assert [row[:2] for row in topic.records("t", done)] == given_rows


def test_a_run_that_is_refused_in_part_says_so() -> None:
    producer = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "linger.ms": 10_000, "queue.buffering.max.messages": 3})
    bulk = BulkProduce.of(producer, Room(messages=100, bytes=1 << 30, message_bytes=1_000_000))
    assert bulk is not None
    with pytest.raises(RefusedError, match=r"produce to t:0: 1 of 4 records refused: .*Queue full"):
        bulk.produce(Emission("t", 0, [b"k"] * 4, [b"v"] * 4), 0, 4)
    producer.purge()


def test_no_timestamps_mean_now(topic: Topic) -> None:
    bulk = BulkProduce.of(topic.producer, ROOM)
    assert bulk is not None
    before = time.time_ns() // 1_000_000
    assert bulk.produce(Emission("t", 1, [b"a"], [b"1"]), 0, 1) == 1
    ((key, value, at),) = topic.records("t", 1)
    assert (key, value) == (b"a", b"1") and before <= at <= time.time_ns() // 1_000_000


def test_a_record_that_is_refused_is_left_to_produce_which_says_why(topic: Topic) -> None:
    bulk = BulkProduce.of(topic.producer, ROOM)
    assert bulk is not None
    run = Emission("t", 1, [b"a", b"b"], [b"1", bytes(2_000_000)])  # too large for a call for many
    assert bulk.produce(run, 0, 2) == 1
    with pytest.raises(KafkaException, match="too large"):
        topic.producer.produce("t", run.values[1], run.keys[1], 1)
    assert topic.records("t", 1)[0][:2] == (b"a", b"1")
