"""The compiled side of a consumer against confluent-kafka's own, on a broker that librdkafka mocks: the same records, ends and errors."""

import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka import TopicPartition as Address
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.patience import patient
from tidemill.shared.kafka.bulk_consume import BulkConsume, QueueEvent
from tidemill.shared.log.records import Records, TopicPartition

Row = tuple[bytes | None, bytes | None, int]
rows = st.lists(st.tuples(st.none() | st.binary(max_size=40), st.none() | st.binary(max_size=200), st.integers(1, 1 << 42)), min_size=1, max_size=50)
PLACES = [TopicPartition("t", 0), TopicPartition("t", 1)]


class Log:
    """A mocked broker with one topic of four partitions, to write and read."""

    def __init__(self) -> None:
        self.producer = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "linger.ms": 0})
        server = next(iter(self.producer.list_topics(timeout=patient(10)).brokers.values()))
        self.settings = {"bootstrap.servers": f"{server.host}:{server.port}", "group.id": "g", "enable.partition.eof": True, "fetch.wait.max.ms": 20}
        self.ends = dict.fromkeys(PLACES, 0)

    def write(self, place: TopicPartition, written: list[Row]) -> None:
        for key, value, at in written:
            self.producer.produce(place.topic, value, key, place.partition, timestamp=at)
        assert self.producer.flush(patient(20)) == 0
        self.ends[place] += len(written)

    def reader(self) -> tuple[Consumer, BulkConsume]:
        """Assign both partitions from their ends."""
        consumer = Consumer(self.settings)
        bulk = BulkConsume.of(consumer)
        assert bulk is not None
        self.assign(consumer, bulk, self.ends)
        return consumer, bulk

    def assign(self, consumer: Consumer, bulk: BulkConsume, begins: dict[TopicPartition, int]) -> None:
        """Read from there on."""
        bulk.begin(begins)
        consumer.assign([Address(*place, begin) for place, begin in begins.items()])


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + patient(20)
    while not condition():
        assert time.monotonic() < deadline, "condition not met"


def take(bulk: BulkConsume, count: int) -> tuple[dict[TopicPartition, list[Records]], list[QueueEvent]]:
    runs: dict[TopicPartition, list[Records]] = {place: [] for place in PLACES}
    events: list[QueueEvent] = []

    def enough() -> bool:
        taken = bulk.take(1_000, 0.05, 0.0)
        for run in taken.runs:
            runs[TopicPartition(run.topic, run.partition)].append(run)
        events[:] += taken.events
        return sum(len(run) for part in runs.values() for run in part) >= count

    until(enough)
    return runs, events


def parts(runs: list[Records]) -> list[Row]:
    return [row for run in runs for row in zip(run.keys, run.values, run.timestamps_ms.tolist(), strict=True)]


@pytest.fixture(scope="module")
def log() -> Log:
    return Log()


@pytest.fixture(scope="module")
def reader(log: Log) -> tuple[Consumer, BulkConsume]:
    return log.reader()


@given(first=rows, second=rows)
@settings(max_examples=40, deadline=None)
def test_every_record_arrives_as_it_was_given_in_order(log: Log, reader: tuple[Consumer, BulkConsume], first: list[Row], second: list[Row]) -> None:
    begins = dict(log.ends)
    log.write(PLACES[0], first)
    log.write(PLACES[1], second)
    runs, _ = take(reader[1], len(first) + len(second))
    for place, written in zip(PLACES, (first, second), strict=True):
        assert parts(runs[place]) == written
        assert [offset for run in runs[place] for offset in run.offsets.tolist()] == list(range(begins[place], log.ends[place]))
    assert reader[0].poll(0) is None, "something came by the client's queue"


def test_the_end_of_a_partition_is_told(log: Log, reader: tuple[Consumer, BulkConsume]) -> None:
    log.write(PLACES[1], [(b"k", b"v", 1)])
    _, events = take(reader[1], 1)
    end = (PLACES[1], log.ends[PLACES[1]], KafkaError._PARTITION_EOF)
    until(lambda: told(reader[1], events) and end in [(event.place, event.offset, event.error.code()) for event in events])


def test_no_more_are_taken_than_asked_for_and_none_is_lost(log: Log, reader: tuple[Consumer, BulkConsume]) -> None:
    log.write(PLACES[0], [(b"k", b"%d" % n, 1) for n in range(25)])
    taken: list[bytes | None] = []

    def enough() -> bool:
        runs = reader[1].take(10, 0.05, 0.01).runs
        assert sum(map(len, runs)) <= 10
        taken.extend(value for run in runs for value in run.values)
        return len(taken) >= 25

    until(enough)
    assert taken == [b"%d" % n for n in range(25)]


def test_another_assignment_begins_where_it_says_and_nothing_of_the_one_before_comes(log: Log) -> None:
    consumer, bulk = log.reader()
    for n in range(20):
        begins = dict(log.ends)
        log.write(PLACES[n % 2], [(b"k", b"%d" % n, 1), (b"k", b"more", 1)])
        if n % 3 == 0:
            bulk.take(1, 0.05, 0.0)  # some have been read, others wait
        log.assign(consumer, bulk, {PLACES[n % 2]: begins[PLACES[n % 2]]})
        runs, _ = take(bulk, 2)
        assert [value for part in runs.values() for run in part for value in run.values] == [b"%d" % n, b"more"]
        assert consumer.poll(0) is None
    bulk.close()
    consumer.close()


def test_an_offset_that_is_not_there_is_an_event(log: Log) -> None:
    consumer = Consumer({**log.settings, "auto.offset.reset": "error"})
    bulk = BulkConsume.of(consumer)
    assert bulk is not None
    log.assign(consumer, bulk, {PLACES[0]: 1 << 40})
    events: list[QueueEvent] = []
    until(lambda: told(bulk, events))
    assert {event.error.code() for event in events} <= {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}
    bulk.close()
    consumer.close()


def told(bulk: BulkConsume, events: list[QueueEvent]) -> bool:
    events.extend(bulk.take(10, 0.05, 0.0).events)
    return bool(events)


def test_a_consumer_that_is_left_behind_with_messages_in_the_queue_goes(log: Log) -> None:
    program = """
import gc, sys
from confluent_kafka import Consumer, TopicPartition
from tidemill.shared.kafka.bulk_consume import BulkConsume
from tidemill.shared.log import records
class Holder:
    def noted(self, error):
        pass
holder = Holder()
holder.me = holder
holder.consumer = Consumer({"bootstrap.servers": sys.argv[1], "group.id": "left", "enable.partition.eof": True, "error_cb": holder.noted})
holder.bulk = BulkConsume.of(holder.consumer)
holder.bulk.begin([records.TopicPartition("t", 0)])
holder.consumer.assign([TopicPartition("t", 0, 0)])
while not holder.bulk.take(1, 0.05, 0.0).runs:
    pass
del holder
gc.collect()
print("gone")
"""
    log.write(PLACES[0], [(b"k", b"v", 1)] * 20)
    done = subprocess.run(
        [sys.executable, "-c", program, str(log.settings["bootstrap.servers"])], capture_output=True, text=True, timeout=patient(60), check=False
    )
    assert done.stdout == "gone\n", done.stderr
