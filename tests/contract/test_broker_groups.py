"""One suite for both brokers: groups, assignments, positions, ends."""

import time
from collections.abc import Callable

import pytest

from tests.contract.brokers import DEADLINE_S, SESSION_TIMEOUT_S, collect, delete_records, publish, read, until
from tidemill.shared.log.broker import Broker, FencedError, OffsetLostError, Source
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import TopicPartition


def test_who_leaves_gives_its_partitions_to_the_others_at_once(topic: str, member: Callable[..., Source]) -> None:
    """The others do not wait for the session time-out."""
    one, two = member("1"), member("2", wait=False)
    until(lambda: [len(source.assignment.partitions) for source in (one, two) if source.consume(1, 0.02) == []] == [1, 1])
    begun = time.monotonic()
    two.leave()
    two.close()
    until(lambda: one.consume(1, 0.02) == [] and len(one.assignment.partitions) == 2)
    assert time.monotonic() - begun < SESSION_TIMEOUT_S / 2
    again = member("2", wait=False)
    until(lambda: [len(source.assignment.partitions) for source in (one, again) if source.consume(1, 0.02) == []] == [1, 1])


def test_who_leaves_when_it_is_alone_keeps_nobody_of_another_name_waiting(topic: str, member: Callable[..., Source]) -> None:
    one = member("1")
    begun = time.monotonic()
    one.leave()
    one.close()
    assert len(member("of another name").assignment.partitions) == 2
    assert time.monotonic() - begun < SESSION_TIMEOUT_S / 2


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
    read = 0
    deadline = time.monotonic() + DEADLINE_S
    while read < 50:
        read += sum(map(len, source.consume(10, 0.05)))
        if 0 < read < 50:
            assert TopicPartition(topic, 0) not in source.caught_up
        assert time.monotonic() < deadline
    until(lambda: source.consume(10, 0.05) == [] and source.caught_up == both)


def test_a_second_instance_of_the_same_name_fences_the_first(
    broker: Broker, topic: str, member: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemill.shared.kafka.static_name._SESSIONS_OF_A_GHOST", 0.01)
    first, second = member("0"), member("0")

    def reads_on() -> bool:
        second.consume(1, 0.0)
        try:
            return first.consume(1, 0.05) != []
        except TransientError:  # Who has its name is to be seen.
            return bool(first.assignment.partitions)

    with pytest.raises(FencedError):
        until(reads_on)
    assert second.consume(1, 0.0) == [] and second.assignment.partitions


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
