"""What a broker does not take ends its transaction with the broker's own reason, at once, whatever else was written with it."""

import ctypes
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, Producer

from tidemill.shared.kafka import sinks
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.kafka.librdkafka import handle_of, library
from tidemill.shared.kafka.sinks import KafkaTransactionalSink
from tidemill.shared.log.broker import FencedError, RecordRefusedError, TopicAwayError
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import Emission

PRODUCE, ADD_PARTITIONS, END_TRANSACTION = 0, 24, 26


class Mock:
    """A broker that librdkafka mocks, which can be told what to answer next."""

    def __init__(self) -> None:
        self._client = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1})
        for topic in ("out", "progress"):
            self._client.produce(topic, b"made")
        self._client.flush(10)
        (broker,) = self._client.list_topics(timeout=10).brokers.values()
        self.address = f"{broker.host}:{broker.port}"

    def refuse(self, *codes: int, request: int = PRODUCE) -> None:
        """Answer the next requests (to write) with these errors."""
        found, cluster = self._cluster()
        errors = (ctypes.c_int * len(codes))(*codes)
        found.rd_kafka_mock_push_request_errors_array(cluster, ctypes.c_int16(request), ctypes.c_size_t(len(codes)), errors)

    def take_away(self, topic: str) -> None:
        """Know a topic no more: a transaction that is to write there waits for it, with all that it writes elsewhere."""
        found, cluster = self._cluster()
        found.rd_kafka_mock_topic_set_error(cluster, topic.encode(), ctypes.c_int(KafkaError.UNKNOWN_TOPIC_OR_PART))
        self.refuse(*[KafkaError.UNKNOWN_TOPIC_OR_PART] * 1_000, request=ADD_PARTITIONS)

    def _cluster(self) -> tuple[ctypes.CDLL, ctypes.c_void_p]:
        found = library()
        assert found is not None, "expected the librdkafka that is known"
        found.rd_kafka_handle_mock_cluster.restype = ctypes.c_void_p
        return found, ctypes.c_void_p(found.rd_kafka_handle_mock_cluster(ctypes.c_void_p(handle_of(self._client))))


@pytest.fixture
def mock() -> Mock:
    return Mock()


@pytest.fixture
def sink(mock: Mock) -> Iterator[KafkaTransactionalSink]:
    made = KafkaBroker(mock.address, deadline_s=20).transactional_sink("one")
    made.open()
    yield made
    made.close()


def write(sink: KafkaTransactionalSink, end: str = "commit", first_offset: int | None = 0) -> None:
    sink.begin()
    sink.produce(Emission("out", 0, [b"k"] * 300, [b"v"] * 300))
    sink.produce(Emission("progress", 0, [b"0"], [b"where"], first_offset=first_offset))
    sink.commit() if end == "commit" else sink.abort()


@pytest.mark.parametrize("code", [KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD])
def test_a_record_that_is_refused_says_so_without_a_wait_for_what_is_not_written_any_more(
    mock: Mock, sink: KafkaTransactionalSink, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(sinks, "FLUSH_S", 1_000.0)
    mock.refuse(code)
    with pytest.raises(RecordRefusedError):
        write(sink)
    sink.abort()


def test_a_topic_that_is_gone_is_named_and_not_the_one_whose_offset_is_looked_at(
    mock: Mock, sink: KafkaTransactionalSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the transaction is written, the progress record among it: nobody else has written in its place."""
    monkeypatch.setattr(sinks, "FLUSH_S", 0.3)
    mock.take_away("out")
    with pytest.raises(TopicAwayError, match="there is no topic out: "):
        write(sink)


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_a_transaction_that_the_broker_has_ended_for_its_age_costs_its_producer_and_is_no_successors(
    mock: Mock, sink: KafkaTransactionalSink, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """While a leader or coordinator is elected a transaction may stand open for too long: the broker aborts it and fences its producer."""
    monkeypatch.setattr(sinks, "TIMED_OUT_S", 0.0)
    mock.refuse(KafkaError.PRODUCER_FENCED, request=END_TRANSACTION)
    with pytest.raises(TransientError, match="stood open for longer than 10 s"):
        write(sink, end, None)
    sink.abort()
    write(sink, "commit", None)


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_a_producer_that_is_fenced_within_a_transactions_time_has_a_successor(mock: Mock, sink: KafkaTransactionalSink, end: str) -> None:
    mock.refuse(KafkaError.PRODUCER_FENCED, request=END_TRANSACTION)
    with pytest.raises(FencedError):
        write(sink, end, None)
    sink.abort()


def test_a_topic_that_may_not_be_written_is_no_fault_of_the_record(mock: Mock, sink: KafkaTransactionalSink) -> None:
    mock.refuse(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(TransientError, match=r"[Aa]uthorization|TOPIC_AUTHORIZATION_FAILED"):
        write(sink)
    sink.abort()
