"""One suite for both brokers: topics, order, keys and values, readers."""

import random
import time
from collections.abc import Callable

import numpy as np
import pytest

from tests.contract.brokers import DEADLINE_S, collect, delete_topic, publish, read, run, until
from tidemill.shared.log.broker import Broker, Reader, Source, TopicSpec, TransactionalSink
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import TopicPartition


def test_a_topic_says_how_large_its_records_may_be(broker: Broker, topic_prefix: str) -> None:
    broker.create_topics([TopicSpec(f"{topic_prefix}-small", 1, {"max.message.bytes": "5000"})])
    assert broker.max_message_bytes(f"{topic_prefix}-small") == 5_000
    with pytest.raises(ValueError, match="there is no"):
        broker.max_message_bytes(f"{topic_prefix}-absent")
    sink = broker.sink()
    with pytest.raises(Exception, match=r"5000|MSG_SIZE_TOO_LARGE|[Tt]oo large"):
        # Kafka measures what it is sent, that is compressed: random bytes stay as long as they are.
        sink.publish(f"{topic_prefix}-small", b"k", random.Random(3).randbytes(10_000), partition=0)
        sink.flush()


def test_records_come_back_in_order_with_all_their_parts(broker: Broker, topic: str, member: Callable[..., Source]) -> None:
    publish(broker, topic, [b"%d" % n for n in range(500)])
    source = member()
    source.assign({TopicPartition(topic, 0): 0})
    arrived = collect(source, 500)
    assert [value for records in arrived for value in records.values] == [b"%d" % n for n in range(500)]
    assert np.concatenate([records.offsets for records in arrived]).tolist() == list(range(500))
    assert np.concatenate([records.timestamps_ms for records in arrived]).tolist() == list(range(1000, 1500))
    assert {key for records in arrived for key in records.keys} == {b"k"}


def test_a_reader_does_not_linger_over_topics_it_has_not_seen(
    broker: Broker, topic_prefix: str, producer: Callable[[str], TransactionalSink]
) -> None:
    """A restore reads a dozen small ones. A client that is not told of a topic first finds its leader after a second."""
    names = [f"{topic_prefix}-{number}" for number in range(10)]
    broker.create_topics([TopicSpec(name) for name in names])
    sink = producer(topic_prefix)
    sink.begin()
    for name in names:
        sink.produce(run(name, [b"a", b"b"]))
    sink.commit()
    reader, begun = broker.reader(), time.monotonic()
    for name in names:
        assert [value for records in reader.read(TopicPartition(name, 0), 0) for value in records.values] == [b"a", b"b"]
    assert time.monotonic() - begun < 5.0
    reader.close()


def test_null_values_and_keys_survive(broker: Broker, topic: str) -> None:
    sink = broker.sink()
    sink.publish(topic, None, None, 77, 1)
    sink.publish(topic, b"", b"", 78, 1)
    sink.flush()
    reader = broker.reader()
    (records,) = list(reader.read(TopicPartition(topic, 1), 0))
    assert (list(records.keys), list(records.values), records.timestamps_ms.tolist()) == ([None, b""], [None, b""], [77, 78])
    reader.close()


def test_keys_choose_the_same_partition_on_every_broker(broker: Broker, topic: str) -> None:
    sink = broker.sink()
    for key in (b"21", b"foobar", b"a-little-bit-long-string", b"abc", b"flight-7"):
        sink.publish(topic, key, key, 1)
    sink.flush()
    # Java's default partitioner: murmur2 & 0x7fffffff, modulo 2 (values of Kafka's own unit test for the first three).
    hashes = ((b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536))
    expected = {key: (hashed & 0x7FFFFFFF) % 2 for key, hashed in hashes}
    for key, partition in expected.items():
        assert key in read(broker, topic, partition)


def test_a_stretch_ends_where_it_is_told(broker: Broker, topic: str) -> None:
    publish(broker, topic, [b"%d" % n for n in range(10)])
    reader = broker.reader()
    assert reader.watermarks(TopicPartition(topic, 0)) == (0, 10)
    assert [value for records in reader.read(TopicPartition(topic, 0), 3, 6) for value in records.values] == [b"3", b"4", b"5"]
    assert list(reader.read(TopicPartition(topic, 0), 10)) == []
    reader.close()


def test_topics_are_created_once(broker: Broker, topic: str, topic_prefix: str) -> None:
    broker.create_topics([TopicSpec(topic, 2)])
    assert (broker.partitions(topic), broker.partitions(f"{topic_prefix}-none")) == (2, 0)
    with pytest.raises(ValueError, match="expected 3 partitions, found 2"):
        broker.create_topics([TopicSpec(topic, 3)])


def is_away(reader: Reader, place: TopicPartition) -> bool:
    """Whether a topic is not there: whoever reads it hears of an error that may pass."""
    try:
        reader.watermarks(place)
    except TransientError:
        return True
    return False


def test_a_topic_that_is_made_anew_has_another_id(broker: Broker, topic: str) -> None:
    names = [topic, f"{topic}-absent"]
    before = broker.topic_ids(names).result(DEADLINE_S)
    assert set(before) == {topic}, "what does not exist is left out"
    publish(broker, topic, [b"a"])
    assert broker.topic_ids(names).result(DEADLINE_S) == before, "a topic keeps it for life"
    reader = broker.reader()
    assert reader.watermarks(TopicPartition(topic, 0)) == (0, 1)
    delete_topic(broker, topic)
    until(lambda: broker.topic_ids(names).result(DEADLINE_S) == {})
    until(lambda: is_away(reader, TopicPartition(topic, 0)))
    broker.create_topics([TopicSpec(topic, 2)])
    until(lambda: bool(broker.topic_ids(names).result(DEADLINE_S)))
    after = broker.topic_ids(names).result(DEADLINE_S)
    assert set(after) == {topic}
    assert after != before
    assert broker.topic_ids([]).result(DEADLINE_S) == {}
    assert reader.watermarks(TopicPartition(topic, 0)) == (0, 0)


def test_partitions_are_counted_without_waiting(broker: Broker, topic: str) -> None:
    broker.create_topics([TopicSpec(f"{topic}-wide", 3)])
    until(lambda: broker.partitions(f"{topic}-wide") == 3)
    counts = broker.partition_counts([topic, f"{topic}-wide", f"{topic}-absent"]).result(DEADLINE_S)
    assert counts == {topic: broker.partitions(topic), f"{topic}-wide": 3}, "what does not exist is left out"
    assert broker.partition_counts([]).result(DEADLINE_S) == {}


def test_a_group_has_no_offsets_in_a_topic_that_was_deleted(
    broker: Broker, topic: str, member: Callable[..., Source], producer: Callable[[str], TransactionalSink]
) -> None:
    publish(broker, topic, [b"a", b"b"])
    source, sink = member(), producer(f"{topic}-writer")
    sink.begin()
    sink.send_offsets({TopicPartition(topic, 0): 2}, source.membership())
    sink.commit()
    assert source.committed([TopicPartition(topic, 0)]) == {TopicPartition(topic, 0): 2}
    source.close()
    delete_topic(broker, topic)
    until(lambda: broker.topic_ids([topic]).result(DEADLINE_S) == {})
    broker.create_topics([TopicSpec(topic, 2)])
    until(lambda: broker.partitions(topic) == 2)
    looks = broker.source(f"{topic}-group", "1")
    assert looks.committed([TopicPartition(topic, 0)]) == {}
    looks.close()
