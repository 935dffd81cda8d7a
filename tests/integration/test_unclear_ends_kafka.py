"""Requests of a transaction, held back, delayed, lost and repeated before a real broker: nothing is lost, doubled or torn."""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.kafka_proxy import ADD_OFFSETS, ADD_PARTITIONS, KafkaProxy
from tests.patience import patient
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.kafka.sinks import KafkaTransactionalSink
from tidemill.shared.log.broker import Source, TopicSpec
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import Emission, TopicPartition

# Two partitions, so that a transaction that is torn shows.
BOTH = (0, 1)
Read = Callable[[], list[list[bytes | None]]]


@pytest.fixture
def proxy(infrastructure: Infrastructure) -> Iterator[KafkaProxy]:
    host, _, port = infrastructure.bootstrap_servers.rpartition(":")
    made = KafkaProxy(host, int(port))
    yield made
    made.close()


@pytest.fixture
def topic(infrastructure: Infrastructure, application_name: str) -> str:
    KafkaBroker(infrastructure.bootstrap_servers).create_topics([TopicSpec(f"{application_name}-out", len(BOTH))])
    return f"{application_name}-out"


@pytest.fixture
def sink(proxy: KafkaProxy, topic: str) -> Iterator[KafkaTransactionalSink]:
    made = KafkaBroker(proxy.address, deadline_s=20).transactional_sink(topic)
    made.open()
    yield made
    made.close()


@pytest.fixture
def committed(infrastructure: Infrastructure, topic: str) -> Iterator[Read]:
    reader = KafkaBroker(infrastructure.bootstrap_servers).reader()
    yield lambda: [[value for records in reader.read(TopicPartition(topic, number), 0) for value in records.values] for number in BOTH]
    reader.close()


def begin(sink: KafkaTransactionalSink, topic: str, value: bytes) -> None:
    sink.begin()
    for number in BOTH:
        sink.produce(Emission(topic, number, [b"k"], [value]))


@pytest.mark.lasts(10)
def test_a_commit_whose_answer_is_lost_is_there_once_and_costs_the_producer(
    proxy: KafkaProxy, sink: KafkaTransactionalSink, topic: str, committed: Read
) -> None:
    begin(sink, topic, b"before")
    sink.commit()
    proxy.lose_answers = 1
    begin(sink, topic, b"unclear")
    with pytest.raises(TransientError, match="a new producer fences"):
        sink.commit()
    sink.abort()
    begin(sink, topic, b"after")
    sink.commit()
    assert committed() == [[b"before", b"unclear", b"after"]] * 2
    first, *_, last = proxy.seen
    assert (last.producer_id, last.epoch) > (first.producer_id, first.epoch)


@pytest.mark.lasts(10)
@pytest.mark.parametrize("later", ["committed", "aborted"])
def test_a_commit_that_comes_late_and_twice_ends_no_later_transaction(
    proxy: KafkaProxy, sink: KafkaTransactionalSink, topic: str, committed: Read, later: str
) -> None:
    proxy.hold_requests = 1
    begin(sink, topic, b"unclear")
    with pytest.raises(TransientError, match="a new producer fences"):
        sink.commit()
    sink.abort()
    begin(sink, topic, b"later")
    (late,) = proxy.held
    assert proxy.deliver(late) != 0 and proxy.deliver(late) != 0, "the broker must know the epoch for an old one"
    if later == "committed":
        sink.commit()
    else:
        sink.abort()
    assert committed() == [[b"unclear", b"later"] if later == "committed" else [b"unclear"]] * 2


@pytest.mark.lasts(10)
def test_an_abort_whose_answer_is_lost_drops_its_transaction_only(
    proxy: KafkaProxy, sink: KafkaTransactionalSink, topic: str, committed: Read
) -> None:
    begin(sink, topic, b"dropped")
    proxy.lose_answers = 1
    sink.abort()
    begin(sink, topic, b"after")
    sink.commit()
    assert committed() == [[b"after"]] * 2


@pytest.fixture
def member(infrastructure: Infrastructure, application_name: str, topic: str) -> Iterator[Source]:
    """A member of a group that has its partitions."""
    source = KafkaBroker(infrastructure.bootstrap_servers).source(f"{application_name}-group", "0")
    source.subscribe([topic])
    deadline = time.monotonic() + patient(20)
    while not source.assignment.partitions:
        source.consume(1, 0.1)
        assert time.monotonic() < deadline, "no assignment"
    yield source
    source.leave()
    source.close()


@pytest.mark.lasts(15)
@pytest.mark.parametrize("api", [ADD_PARTITIONS, ADD_OFFSETS])
@pytest.mark.parametrize("fate", ["delayed", "answer lost", "held back, then delivered twice"])
def test_requests_within_a_transaction_that_come_late_or_never_are_of_no_later_one(
    proxy: KafkaProxy, sink: KafkaTransactionalSink, topic: str, committed: Read, member: Source, api: int, fate: str
) -> None:
    place = TopicPartition(topic, 0)
    proxy.api = api
    proxy.delay_requests, proxy.lose_answers, proxy.hold_requests = (int(fate.startswith(one)) for one in ("delayed", "answer", "held"))

    def write(value: bytes, offset: int) -> None:
        begin(sink, topic, value)
        sink.send_offsets({place: offset}, member.membership())
        sink.commit()

    begun = time.monotonic()
    if fate == "delayed":
        write(b"first", 1)
        assert time.monotonic() - begun >= proxy.delay_s
    else:
        # Committed, or dropped: what the log says counts, and the producer is another one either way.
        with pytest.raises(TransientError):
            write(b"first", 1)
        sink.abort()
    there = committed()
    assert there in ([[b"first"]] * 2, [[]] * 2) and member.committed([place]) == ({place: 1} if there[0] else {})
    assert there[0] or fate != "delayed"
    begin(sink, topic, b"later")
    assert all(proxy.deliver(late) != 0 for late in proxy.held * 2), "the broker must know the epoch for an old one"
    sink.send_offsets({place: 2}, member.membership())
    sink.commit()
    assert committed() == [[*values, b"later"] for values in there] and member.committed([place]) == {place: 2}
    epochs = [(one.producer_id, one.epoch) for one in proxy.seen]
    assert (epochs[-1] == epochs[0]) == (fate == "delayed")
