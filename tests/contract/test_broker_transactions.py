"""One suite for both brokers: transactions, fencing, offsets that are committed with them."""

from collections.abc import Callable

import pytest

from tests.contract.brokers import collect, publish, read, run, until
from tidemill.shared.log.broker import Broker, FencedError, Source, TransactionalSink
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import Emission, TopicPartition


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
    sink, reader, place = producer(f"{topic}-tx"), broker.reader(), TopicPartition(topic, 0)
    assert reader.stable_end(place) == 0
    sink.begin()
    sink.produce(run(topic, [b"open"] * 2))
    sink.commit()
    until(lambda: reader.stable_end(place) == 3)
    sink.begin()
    sink.produce(run(topic, [b"never"]))
    publish(broker, topic, [b"after"])
    until(lambda: reader.watermarks(place)[1] == 5)
    assert reader.stable_end(place) == 3
    assert [list(records.values) for records in reader.read(place, 0, 3)] == [[b"open"] * 2], "it waits for nobody"
    assert producer(f"{topic}-tx") is not sink  # the successor aborts what was left open
    until(lambda: reader.stable_end(place) == 6)
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
        # Also where no offset was asked for: what was written lies before it, and the next record does not. The marker between them comes after the
        # commit has been answered.
        until(lambda expected=ends[other]: reader.watermarks(other)[1] == expected)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        assert [len(records) for records in reader.read(other, ends[other] - 2, ends[other])] == [1]
        end = ends[place]
        until(lambda expected=end: reader.watermarks(place)[1] == expected)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
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


def test_of_two_writers_of_other_names_one_commits_and_the_one_after_it_sees_what_came_of_it(
    broker: Broker, topic: str, producer: Callable[[str], TransactionalSink]
) -> None:
    """What `tidemill.shared.runner.ownership` builds on; `tests/property/test_ownership.py` plays every order of the calls."""
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
