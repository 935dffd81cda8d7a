"""One suite for both brokers: order, transactions, fencing, groups, ends, lost offsets."""

import random
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from confluent_kafka import TopicPartition as Address
from confluent_kafka.admin import AdminClient

from deploy.embedded.infrastructure import Infrastructure
from shared.streaming.broker import Broker, FencedError, OffsetLostError, Source, TopicSpec, TransactionalSink
from shared.streaming.errors import TransientError
from shared.streaming.kafka_broker import KafkaBroker
from shared.streaming.memory_broker import MemoryBroker
from shared.streaming.records import Emission, Records, TopicPartition

DEADLINE_S = 20.0


@pytest.fixture(params=["memory", "kafka"])
def broker(request: pytest.FixtureRequest) -> Broker:
    if request.param == "memory":
        return MemoryBroker()
    infrastructure: Infrastructure = request.getfixturevalue("infrastructure")
    return KafkaBroker(infrastructure.bootstrap_servers, session_timeout_ms=6_000)


@pytest.fixture
def topic(broker: Broker, topic_prefix: str) -> str:
    broker.create_topics([TopicSpec(f"{topic_prefix}-a", 2), TopicSpec(f"{topic_prefix}-b", 2)])
    until(lambda: all(broker.partitions(f"{topic_prefix}-{name}") == 2 for name in "ab"))  # a broker knows a topic a little after its controller
    return f"{topic_prefix}-a"


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


@pytest.fixture
def member(broker: Broker, topic: str) -> Iterator[Callable[..., Source]]:
    opened: list[Source] = []

    def join(instance: str = "0", group: str = f"{topic}-group", wait: bool = True) -> Source:
        source = broker.source(group, instance)
        opened.append(source)
        source.subscribe([topic])
        if wait:
            until(lambda: source.consume(1, 0.05) == [] and bool(source.assignment.partitions))
        return source

    yield join
    for source in opened:
        source.close()


@pytest.fixture
def producer(broker: Broker) -> Iterator[Callable[[str], TransactionalSink]]:
    opened: list[TransactionalSink] = []

    def make(name: str) -> TransactionalSink:
        sink = broker.transactional_sink(name)
        opened.append(sink)
        sink.open()
        return sink

    yield make
    for sink in opened:
        try:
            sink.close()
        except FencedError:
            continue


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
    found: list[Records] = []

    def enough() -> bool:
        found.extend(source.consume(1000, 0.05))
        return sum(map(len, found)) >= count

    until(enough)
    return found


def test_records_come_back_in_order_with_all_their_parts(broker: Broker, topic: str, member: Callable[..., Source]) -> None:
    publish(broker, topic, [b"%d" % n for n in range(500)])
    source = member()
    source.assign({TopicPartition(topic, 0): 0})
    found = collect(source, 500)
    assert [value for records in found for value in records.values] == [b"%d" % n for n in range(500)]
    assert np.concatenate([records.offsets for records in found]).tolist() == list(range(500))
    assert np.concatenate([records.timestamps_ms for records in found]).tolist() == list(range(1000, 1500))
    assert {key for records in found for key in records.keys} == {b"k"}


def test_who_leaves_gives_its_partitions_to_the_others_at_once(topic: str, member: Callable[..., Source]) -> None:
    """The session time-out of these members is six seconds: the others do not wait for it."""
    one, two = member("1"), member("2", wait=False)
    until(lambda: [len(source.assignment.partitions) for source in (one, two) if source.consume(1, 0.02) == []] == [1, 1])
    begun = time.monotonic()
    two.leave()
    two.close()
    until(lambda: one.consume(1, 0.02) == [] and len(one.assignment.partitions) == 2)
    assert time.monotonic() - begun < 4.0
    again = member("2", wait=False)
    until(lambda: [len(source.assignment.partitions) for source in (one, again) if source.consume(1, 0.02) == []] == [1, 1])


def test_who_leaves_when_it_is_alone_keeps_nobody_of_another_name_waiting(topic: str, member: Callable[..., Source]) -> None:
    one = member("1")
    begun = time.monotonic()
    one.leave()
    one.close()
    assert len(member("of another name").assignment.partitions) == 2
    assert time.monotonic() - begun < 4.0


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


def test_position_after_reading_is_kept_by_assign(broker: Broker, topic: str, member: Callable[..., Source]) -> None:
    publish(broker, topic, [b"a", b"b", b"c"])
    source = member()
    source.assign({TopicPartition(topic, 0): 2})
    assert [list(records.values) for records in collect(source, 1)] == [[b"c"]]
    source.assign({TopicPartition(topic, 0): 1, TopicPartition(topic, 1): 0})
    assert [value for records in collect(source, 2) for value in records.values] == [b"b", b"c"]


def test_nothing_is_read_before_assign(broker: Broker, topic: str, member: Callable[..., Source]) -> None:
    publish(broker, topic, [b"a"])
    source = member()
    assert source.assignment.partitions == {TopicPartition(topic, 0), TopicPartition(topic, 1)}
    assert all(source.consume(10, 0.02) == [] for _ in range(20))


def test_ends_are_reported_and_taken_back(broker: Broker, topic: str, member: Callable[..., Source]) -> None:
    both = {TopicPartition(topic, 0), TopicPartition(topic, 1)}
    source = member()
    source.assign(dict.fromkeys(both, 0))
    until(lambda: source.consume(10, 0.05) == [] and source.caught_up == both)
    publish(broker, topic, [b"x"] * 50)
    found = 0
    deadline = time.monotonic() + DEADLINE_S
    while found < 50:
        found += sum(map(len, source.consume(10, 0.05)))
        if 0 < found < 50:
            assert TopicPartition(topic, 0) not in source.caught_up
        assert time.monotonic() < deadline
    until(lambda: source.consume(10, 0.05) == [] and source.caught_up == both)


def test_a_transaction_is_seen_whole_after_commit_and_not_before(
    broker: Broker, topic: str, member: Callable[..., Source], producer: Callable[[str], TransactionalSink]
) -> None:
    source = member()
    source.assign({TopicPartition(topic, 0): 0, TopicPartition(topic, 1): 0})
    sink = producer(f"{topic}-tx")
    sink.begin()
    sink.produce(run(topic, [b"a", b"b"]))
    sink.produce(run(topic, [b"c"], 1))
    assert all(source.consume(10, 0.02) == [] for _ in range(15))
    sink.commit()
    assert sorted(value or b"" for records in collect(source, 3) for value in records.values) == [b"a", b"b", b"c"]


def test_an_aborted_transaction_leaves_nothing(
    broker: Broker, topic: str, producer: Callable[[str], TransactionalSink], member: Callable[..., Source]
) -> None:
    source = member()
    sink = producer(f"{topic}-tx")
    sink.begin()
    sink.produce(run(topic, [b"lost"] * 3))
    sink.send_offsets({TopicPartition(topic, 0): 7}, source.membership())
    sink.abort()
    sink.begin()
    sink.produce(run(topic, [b"kept"]))
    sink.commit()
    assert read(broker, topic) == [b"kept"]
    assert source.committed([TopicPartition(topic, 0)]) == {}


def test_records_behind_an_open_transaction_wait_for_it(broker: Broker, topic: str, producer: Callable[[str], TransactionalSink]) -> None:
    sink = producer(f"{topic}-tx")
    sink.begin()
    sink.produce(run(topic, [b"open"] * 2))
    sink.commit()
    sink.begin()
    sink.produce(run(topic, [b"never"]))
    publish(broker, topic, [b"after"])
    assert producer(f"{topic}-tx") is not sink  # the successor aborts what was left open
    assert read(broker, topic) == [b"open", b"open", b"after"]


def test_offsets_are_committed_with_the_transaction(
    broker: Broker, topic: str, member: Callable[..., Source], producer: Callable[[str], TransactionalSink]
) -> None:
    source = member()
    sink = producer(f"{topic}-tx")
    assert source.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)]) == {}
    sink.begin()
    sink.send_offsets({TopicPartition(topic, 0): 5}, source.membership())
    sink.commit()
    assert source.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)]) == {TopicPartition(topic, 0): 5}


def test_a_zombie_producer_is_fenced(broker: Broker, topic: str, producer: Callable[[str], TransactionalSink]) -> None:
    zombie = producer(f"{topic}-tx")
    zombie.begin()
    zombie.produce(run(topic, [b"zombie"]))
    successor = producer(f"{topic}-tx")
    with pytest.raises(FencedError):
        zombie.commit()
    successor.begin()
    successor.produce(run(topic, [b"successor"]))
    successor.commit()
    assert read(broker, topic) == [b"successor"]


def test_an_old_generation_cannot_commit_offsets(
    broker: Broker, topic: str, member: Callable[..., Source], producer: Callable[[str], TransactionalSink]
) -> None:
    first = member("0")
    stale = first.membership()
    sink = producer(f"{topic}-tx")
    second = member("1", wait=False)

    def settled() -> bool:
        first.consume(1, 0.05)
        second.consume(1, 0.05)
        return len(first.assignment.partitions) == 1 and len(second.assignment.partitions) == 1

    until(settled)
    assert first.assignment.partitions | second.assignment.partitions == {TopicPartition(topic, 0), TopicPartition(topic, 1)}
    sink.begin()
    sink.produce(run(topic, [b"zombie"]))
    with pytest.raises((TransientError, FencedError)):
        sink.send_offsets({TopicPartition(topic, 0): 5}, stale)
        sink.commit()
    sink.abort()
    assert read(broker, topic) == []
    sink.begin()
    sink.send_offsets({TopicPartition(topic, 0): 6}, first.membership())
    sink.commit()
    assert first.committed([TopicPartition(topic, 0)]) == {TopicPartition(topic, 0): 6}


def test_a_second_instance_of_the_same_name_fences_the_first(broker: Broker, topic: str, member: Callable[..., Source]) -> None:
    first, _ = member("0"), member("0")
    with pytest.raises(FencedError):
        until(lambda: first.consume(1, 0.05) != [])


def test_a_rebalance_voids_what_was_assigned(broker: Broker, topic: str, member: Callable[..., Source]) -> None:
    first = member("0")
    first.assign({TopicPartition(topic, 0): 0, TopicPartition(topic, 1): 0})
    epoch = first.assignment.epoch
    second = member("1", wait=False)

    def settled() -> bool:
        first.consume(1, 0.05)
        second.consume(1, 0.05)
        return len(first.assignment.partitions) == 1 and len(second.assignment.partitions) == 1

    until(settled)
    assert first.assignment.epoch > epoch
    publish(broker, topic, [b"a"])
    publish(broker, topic, [b"b"], 1)
    assert all(first.consume(10, 0.02) == [] for _ in range(15))


def test_a_position_outside_of_the_log_is_loud(broker: Broker, topic: str, member: Callable[..., Source]) -> None:
    publish(broker, topic, [b"a"])
    reader = broker.reader()
    with pytest.raises(OffsetLostError, match="99"):
        list(reader.read(TopicPartition(topic, 0), 99))
    reader.close()
    source = member()
    source.assign({TopicPartition(topic, 0): 99})
    with pytest.raises(OffsetLostError, match=topic):
        until(lambda: source.consume(10, 0.05) != [])


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


def test_records_get_the_offsets_they_were_to_have(broker: Broker, topic: str, producer: Callable[[str], TransactionalSink]) -> None:
    sink, reader, place, other = producer(f"{topic}-placed"), broker.reader(), TopicPartition(topic, 0), TopicPartition(topic, 1)
    end = reader.watermarks(place)[1]
    for count in (1, 3, 2_000):
        sink.begin()
        sink.produce(Emission(topic, 0, [b"k"] * count, [b"v"] * count, first_offset=end))
        sink.produce(Emission(topic, 0, [b"k"], [b"more"], first_offset=end + count))
        sink.produce(Emission(topic, 1, [b"k"], [b"anywhere"]))
        ends = sink.commit()
        assert set(ends) == {place, other}
        # Also where no offset was asked for: what was written lies before it, and the next record does not.
        assert [len(records) for records in reader.read(other, ends[other] - 2, ends[other])] == [1]
        end = ends[place]
        until(lambda expected=end: reader.watermarks(place)[1] == expected)  # type: ignore[misc]
    sink.begin()
    sink.produce(Emission(topic, 0, [b"k"], [b"given up"], first_offset=end))
    sink.abort()
    until(lambda: reader.watermarks(place)[1] == end + 2)
    sink.begin()
    sink.produce(Emission(topic, 0, [b"k"], [b"after an abort"], first_offset=end + 2))
    assert sink.commit() == {place: end + 4}


def test_a_transaction_with_other_offsets_than_asked_for_is_refused(broker: Broker, topic: str, producer: Callable[[str], TransactionalSink]) -> None:
    sink, other, place = producer(f"{topic}-placed"), producer(f"{topic}-other"), TopicPartition(topic, 0)
    reader = broker.reader()
    end = reader.watermarks(place)[1]
    other.begin()
    other.produce(Emission(topic, 0, [b"k"], [b"in between"]))
    other.commit()
    sink.begin()
    sink.produce(Emission(topic, 0, [b"k"] * 3, [b"v"] * 3, first_offset=end))
    with pytest.raises(TransientError, match="somebody else has written"):
        sink.commit()
    sink.abort()
    assert [value for records in reader.read(place, 0) for value in records.values] == [b"in between"]


def delete_records(broker: Broker, place: TopicPartition, before: int) -> None:
    """Do what retention does."""
    if isinstance(broker, MemoryBroker):
        broker.delete_records(place, before)
        return
    assert isinstance(broker, KafkaBroker)
    admin = AdminClient(broker._connection.settings())
    for done in admin.delete_records([Address(place.topic, place.partition, before)]).values():
        done.result(DEADLINE_S)


def test_what_a_dead_producer_left_half_written_is_never_seen(
    broker: Broker, topic: str, member: Callable[..., Source], producer: Callable[[str], TransactionalSink]
) -> None:
    source = member()
    torn = producer(f"{topic}-tx")
    torn.begin()
    torn.produce(run(topic, [b"half"]))
    torn.send_offsets({TopicPartition(topic, 0): 9}, source.membership())
    successor = producer(f"{topic}-tx")
    successor.begin()
    successor.produce(run(topic, [b"whole"]))
    successor.produce(run(topic, [b"whole"], 1))
    successor.commit()
    assert (read(broker, topic), read(broker, topic, 1)) == ([b"whole"], [b"whole"])
    assert source.committed([TopicPartition(topic, 0)]) == {}
    with pytest.raises(FencedError):
        torn.commit()
    assert (read(broker, topic), read(broker, topic, 1)) == ([b"whole"], [b"whole"])


def test_a_commit_whose_answer_was_lost_stands(
    broker: Broker, topic: str, member: Callable[..., Source], producer: Callable[[str], TransactionalSink]
) -> None:
    source = member()
    first = producer(f"{topic}-tx")
    first.begin()
    first.produce(run(topic, [b"once"]))
    first.send_offsets({TopicPartition(topic, 0): 3}, source.membership())
    first.commit()  # of which the client never heard: it starts anew
    again = producer(f"{topic}-tx")
    assert again is not first
    assert read(broker, topic) == [b"once"]
    assert source.committed([TopicPartition(topic, 0)]) == {TopicPartition(topic, 0): 3}


def test_records_that_retention_deleted_are_loud_for_a_member_and_skipped_by_a_reader(
    broker: Broker, topic: str, member: Callable[..., Source]
) -> None:
    place = TopicPartition(topic, 0)
    publish(broker, topic, [b"%d" % n for n in range(6)])
    delete_records(broker, place, 4)
    reader = broker.reader()
    until(lambda: reader.watermarks(place) == (4, 6))
    assert [value for records in reader.read(place, 0) for value in records.values] == [b"4", b"5"]
    publish(broker, topic, [b"6"])
    assert read(broker, topic) == [b"4", b"5", b"6"], "offsets go on"
    source = member()
    source.assign({place: 4})
    assert [value for records in collect(source, 3) for value in records.values] == [b"4", b"5", b"6"]
    source.assign({place: 1})
    with pytest.raises(OffsetLostError, match=topic):
        until(lambda: source.consume(10, 0.05) != [])
    delete_records(broker, place, 7)
    until(lambda: reader.watermarks(place) == (7, 7))
    assert list(reader.read(place, 0)) == []
    reader.close()


def test_who_is_in_a_group_and_has_what(broker: Broker, topic: str, member: Callable[..., Source]) -> None:
    assert broker.members(f"{topic}-group") == {}
    source = member("one")
    until(lambda: source.consume(1, 0.05) == [] and broker.members(f"{topic}-group") == {"one": source.assignment.partitions})
    assert source.assignment.partitions == {TopicPartition(topic, 0), TopicPartition(topic, 1)}


def test_of_two_writers_of_other_names_one_commits_and_the_one_after_it_sees_what_came_of_it(
    broker: Broker, topic: str, producer: Callable[[str], TransactionalSink]
) -> None:
    """What `shared.streaming.ownership` builds on; `tests/property/test_ownership.py` plays every order of the calls."""
    place, reader = TopicPartition(topic, 0), broker.reader()
    one, other = producer(f"{topic}-one"), producer(f"{topic}-other")

    def expect(sink: TransactionalSink, value: bytes, end: int) -> None:
        sink.begin()
        sink.produce(Emission(topic, 0, [b"k"], [value], first_offset=end))

    # Both expect the same place: the append decides, although neither has committed.
    expect(one, b"one", 0)
    until(lambda: reader.watermarks(place)[1] == 1)
    expect(other, b"other", 0)
    assert not _commits(other)
    other.abort()
    assert _commits(one)
    # A claim comes between the append and the commit: the commit stands, the next one is refused, and the claimant reads what was committed.
    until(lambda: reader.watermarks(place)[1] == 4)
    expect(one, b"between", 4)
    until(lambda: reader.watermarks(place)[1] == 5)
    other.begin()
    other.produce(Emission(topic, 0, [b"claim"], [None]))
    other.commit()
    assert _commits(one)
    until(lambda: reader.watermarks(place)[1] == 8)
    assert [value for records in reader.read(place, 0) for value in records.values] == [b"one", b"between", None]
    expect(one, b"stale", 6)
    assert not _commits(one)
    one.abort()
    until(lambda: reader.watermarks(place)[1] == 10)
    expect(other, b"next", 10)
    assert _commits(other)
    assert [value for records in reader.read(place, 0) for value in records.values] == [b"one", b"between", None, b"next"]
    reader.close()


def _commits(sink: TransactionalSink) -> bool:
    try:
        sink.commit()
    except TransientError:
        return False
    return True
