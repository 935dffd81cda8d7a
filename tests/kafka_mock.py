"""A Kafka broker without a server: librdkafka's own, which answers as it is told."""

import ctypes

from confluent_kafka import KafkaError, Producer

from tidemill.shared.kafka.librdkafka import handle_of, library

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
        library, cluster = self._cluster()
        errors = (ctypes.c_int * len(codes))(*codes)
        library.rd_kafka_mock_push_request_errors_array(cluster, ctypes.c_int16(request), ctypes.c_size_t(len(codes)), errors)

    def take_away(self, topic: str) -> None:
        """Know a topic no more: a transaction that is to write there waits for it, with all that it writes elsewhere."""
        library, cluster = self._cluster()
        library.rd_kafka_mock_topic_set_error(cluster, topic.encode(), ctypes.c_int(KafkaError.UNKNOWN_TOPIC_OR_PART))
        self.refuse(*[KafkaError.UNKNOWN_TOPIC_OR_PART] * 1_000, request=ADD_PARTITIONS)

    def _cluster(self) -> tuple[ctypes.CDLL, ctypes.c_void_p]:
        librdkafka = library()
        assert librdkafka is not None, "expected the librdkafka that is known"
        librdkafka.rd_kafka_handle_mock_cluster.restype = ctypes.c_void_p
        return librdkafka, ctypes.c_void_p(librdkafka.rd_kafka_handle_mock_cluster(ctypes.c_void_p(handle_of(self._client))))
