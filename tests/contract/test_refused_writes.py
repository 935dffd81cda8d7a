"""What a broker does not take ends its transaction with the broker's own reason, at once, whatever else was written with it."""

import ctypes
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, Producer

from tidemill.shared.kafka import sinks
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.kafka.librdkafka import handle_of, library
from tidemill.shared.kafka.sinks import KafkaTransactionalSink
from tidemill.shared.log.broker import RecordRefusedError, TopicAwayError
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import Emission

PRODUCE, ADD_PARTITIONS = 0, 24


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


def write(sink: KafkaTransactionalSink) -> None:
    sink.begin()
    sink.produce(Emission("out", 0, [b"k"] * 300, [b"v"] * 300))
    sink.produce(Emission("progress", 0, [b"0"], [b"where"], first_offset=0))
    sink.commit()


@pytest.mark.parametrize("code", [KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD])
def test_a_record_that_is_refused_says_so_at_once(mock: Mock, sink: KafkaTransactionalSink, code: int) -> None:
    mock.refuse(code)
    begun = time.monotonic()
    with pytest.raises(RecordRefusedError):
        write(sink)
    assert time.monotonic() - begun < 4
    sink.abort()


def test_a_topic_that_is_gone_is_named_and_not_the_one_whose_offset_is_looked_at(
    mock: Mock, sink: KafkaTransactionalSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the transaction is written, the progress record among it: nobody else has written in its place."""
    monkeypatch.setattr(sinks, "FLUSH_S", 0.3)
    mock.take_away("out")
    with pytest.raises(TopicAwayError, match="there is no topic out: "):
        write(sink)


def test_a_topic_that_may_not_be_written_is_no_fault_of_the_record(mock: Mock, sink: KafkaTransactionalSink) -> None:
    mock.refuse(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(TransientError, match=r"[Aa]uthorization|TOPIC_AUTHORIZATION_FAILED"):
        write(sink)
    sink.abort()
