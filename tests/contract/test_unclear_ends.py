"""A transaction that ends without a clear answer costs the producer, so that nothing that is still under way can end a later one."""

from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from tests.kafka_proxy import KafkaProxy
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.kafka.sinks import KafkaTransactionalSink
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import Emission


@pytest.fixture
def proxy() -> Iterator[KafkaProxy]:
    """Before a broker that librdkafka mocks: it has transactions as far as requests and answers go."""
    mock = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1})
    mock.produce("out", b"made")
    mock.flush(10)
    (broker,) = mock.list_topics(timeout=10).brokers.values()
    made = KafkaProxy(broker.host, broker.port)
    yield made
    made.close()


@pytest.fixture
def sink(proxy: KafkaProxy) -> Iterator[KafkaTransactionalSink]:
    made = KafkaBroker(proxy.address, deadline_s=20).transactional_sink("one")
    made.open()
    yield made
    made.close()


def write(sink: KafkaTransactionalSink, value: bytes) -> None:
    sink.begin()
    sink.produce(Emission("out", 0, [b"k"], [value]))
    sink.commit()


def test_clear_answers_cost_nothing(proxy: KafkaProxy, sink: KafkaTransactionalSink) -> None:
    for number in range(3):
        write(sink, b"%d" % number)
    assert len({(end.producer_id, end.epoch) for end in proxy.seen}) == 1 and [end.error for end in proxy.seen] == [0, 0, 0]


def test_a_lost_answer_costs_the_producer(proxy: KafkaProxy, sink: KafkaTransactionalSink) -> None:
    write(sink, b"before")
    proxy.lose_answers = 1
    with pytest.raises(TransientError, match="a new producer fences"):
        write(sink, b"unclear")
    sink.abort()
    write(sink, b"after")
    first, *_, last = proxy.seen
    assert (last.producer_id, last.epoch) != (first.producer_id, first.epoch)


def test_a_request_that_comes_late_names_a_producer_that_writes_no_more(proxy: KafkaProxy, sink: KafkaTransactionalSink) -> None:
    """Kafka fences it by the epoch; the mock gives the new producer another id instead."""
    proxy.hold_requests = 1
    with pytest.raises(TransientError, match="a new producer fences"):
        write(sink, b"unclear")
    sink.abort()
    write(sink, b"a later transaction")
    (late,) = proxy.held
    assert (late.producer_id, late.epoch) != (proxy.seen[-1].producer_id, proxy.seen[-1].epoch)


def test_a_lost_answer_to_an_abort_costs_the_producer(proxy: KafkaProxy, sink: KafkaTransactionalSink) -> None:
    sink.begin()
    sink.produce(Emission("out", 0, [b"k"], [b"dropped"]))
    proxy.lose_answers = 1
    sink.abort()
    write(sink, b"after")
    assert proxy.seen[-1].error == 0
    assert (proxy.seen[-1].producer_id, proxy.seen[-1].epoch) != (proxy.seen[0].producer_id, proxy.seen[0].epoch)
