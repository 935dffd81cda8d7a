"""A transaction that ends without a clear answer costs the producer, so that nothing that is still under way can end a later one."""

from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, Producer

from tests.kafka_proxy import KafkaProxy
from tidemill.shared.kafka import sinks
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.kafka.connection import KafkaFailureError
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


def goes_on_as_another_producer(sink: KafkaTransactionalSink, proxy: KafkaProxy) -> None:
    sink.abort()
    write(sink, b"after")
    first, *_, last = proxy.seen
    assert last.error == 0 and (last.producer_id, last.epoch) != (first.producer_id, first.epoch)


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


@pytest.mark.parametrize("call", ["commit", "abort"])
def test_a_client_in_a_fatal_state_is_replaced(proxy: KafkaProxy, sink: KafkaTransactionalSink, call: str) -> None:
    """After an election the coordinator may know of another state than the client, which is of no use from there on."""
    write(sink, b"before")
    proxy.changed_answers, proxy.error = 1, KafkaError.INVALID_TXN_STATE
    sink.begin()
    sink.produce(Emission("out", 0, [b"k"], [b"unclear"]))
    with pytest.raises(TransientError, match=rf"{call}: fatal: .*INVALID_TXN_STATE.*: a new producer takes the place of this one"):
        sink.commit() if call == "commit" else sink.abort()
    goes_on_as_another_producer(sink, proxy)


def test_what_another_client_would_not_mend_ends_the_process(proxy: KafkaProxy) -> None:
    sink = KafkaBroker(proxy.address, deadline_s=20).transactional_sink("one")
    sink.open()
    proxy.changed_answers, proxy.error = 1, KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    with pytest.raises(KafkaFailureError, match="TRANSACTIONAL_ID_AUTHORIZATION_FAILED"):
        write(sink, b"refused")


def test_a_client_that_does_not_come_back_is_replaced(proxy: KafkaProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """librdkafka may overrun the time-out of a call by any time (its issue 5456)."""
    monkeypatch.setattr(sinks, "_HANGS_S", 0.3)
    sink = KafkaBroker(proxy.address, deadline_s=20).transactional_sink("one")
    sink.open()
    write(sink, b"before")
    proxy.delay_requests, proxy.delay_s = 1, 3.0
    sink.begin()
    sink.produce(Emission("out", 0, [b"k"], [b"dropped"]))
    with pytest.raises(TransientError, match=r"aborts: the client did not come back .*: a new producer takes its place"):
        sink.abort()
    goes_on_as_another_producer(sink, proxy)
    sink.close()


@pytest.mark.parametrize("call", ["commit", "abort"])
def test_an_end_without_an_answer_costs_the_producer_and_not_the_process(proxy: KafkaProxy, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """A client may wait for a coordinator that is none any more; another one asks who is."""
    monkeypatch.setattr(sinks, "_HANGS_S", 1.0)
    monkeypatch.setattr(sinks, "_END_S", 0.3)
    sink = KafkaBroker(proxy.address, deadline_s=20).transactional_sink("one")
    sink.open()
    write(sink, b"before")
    proxy.delay_requests, proxy.delay_s = 1, 6.0
    sink.begin()
    sink.produce(Emission("out", 0, [b"k"], [b"unclear"]))
    with pytest.raises(TransientError, match=rf"{call}: no answer within 1 s: a new producer takes the place of this one"):
        sink.commit() if call == "commit" else sink.abort()
    goes_on_as_another_producer(sink, proxy)
    sink.close()
