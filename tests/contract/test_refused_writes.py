"""What a broker does not take ends its transaction with the broker's own reason, at once, whatever else was written with it."""

import ctypes
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, Producer

from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.kafka.librdkafka import handle_of, library
from tidemill.shared.kafka.sinks import KafkaTransactionalSink
from tidemill.shared.log.broker import RecordRefusedError
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import Emission

PRODUCE = 0


class Mock:
    """A broker that librdkafka mocks, which can be told what to answer next."""

    def __init__(self) -> None:
        self._client = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1})
        for topic in ("out", "progress"):
            self._client.produce(topic, b"made")
        self._client.flush(10)
        (broker,) = self._client.list_topics(timeout=10).brokers.values()
        self.address = f"{broker.host}:{broker.port}"

    def refuse(self, *codes: int) -> None:
        """Answer the next requests to write with these errors."""
        found = library()
        assert found is not None, "expected the librdkafka that is known"
        found.rd_kafka_handle_mock_cluster.restype = ctypes.c_void_p
        cluster = found.rd_kafka_handle_mock_cluster(ctypes.c_void_p(handle_of(self._client)))
        errors = (ctypes.c_int * len(codes))(*codes)
        found.rd_kafka_mock_push_request_errors_array(ctypes.c_void_p(cluster), ctypes.c_int16(PRODUCE), ctypes.c_size_t(len(codes)), errors)


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


def test_a_topic_that_may_not_be_written_is_no_fault_of_the_record(mock: Mock, sink: KafkaTransactionalSink) -> None:
    mock.refuse(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(TransientError, match=r"[Aa]uthorization|TOPIC_AUTHORIZATION_FAILED"):
        write(sink)
    sink.abort()
