"""`KafkaSink`: the producer without transactions; and how both producers write."""

import time
from collections.abc import Callable

from confluent_kafka import KafkaError, Message, Producer

from tidemill.shared.kafka.bulk_produce import BulkProduce, Room
from tidemill.shared.kafka.connection import Connection, KafkaFailureError
from tidemill.shared.log.records import Emission

MESSAGE_BYTES = 10_000_000
ROOM = Room(messages=1_000_000, bytes=512 << 20, message_bytes=MESSAGE_BYTES)
WRITING = {
    "partitioner": "murmur2_random",
    "compression.type": "lz4",
    "queue.buffering.max.messages": ROOM.messages,
    "queue.buffering.max.kbytes": ROOM.bytes >> 10,
    "message.max.bytes": ROOM.message_bytes,
}


Delivered = Callable[[KafkaError | None, Message], None]


def produce_run(producer: Producer, bulk: BulkProduce | None, run: Emission, delivered: Delivered | None = None) -> None:
    """Queue a run; `delivered` is told of its last record, and of its first when that has a place to get."""
    last = len(run) - 1
    told = set() if delivered is None else {last} if run.first_offset is None else {0, last}
    row = 0
    while row <= last:
        if bulk is not None and row not in told:
            row = bulk.produce(run, row, last if told else last + 1)
        if row <= last:
            _produce_one(producer, run, row, delivered if row in told else None)
            row += 1


def _produce_one(producer: Producer, run: Emission, row: int, delivered: Delivered | None) -> None:
    """Queue one record, waiting for room."""
    timestamp_ms = 0 if run.timestamps_ms is None else int(run.timestamps_ms[row])
    while True:
        try:
            # By position (callback, its alias, timestamp): names cost as much again as the call.
            producer.produce(run.topic, run.values[row], run.keys[row], run.partition, delivered, None, timestamp_ms)
            return
        except BufferError:
            producer.poll(0.05)


class KafkaSink:
    """Idempotent producer without transactions; made by `KafkaBroker.sink`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._failed: list[str] = []
        self._producer = Producer(connection.settings(**WRITING, linger_ms=5, enable_idempotence=True, on_delivery=self._note_delivery))

    def publish(self, topic: str, key: bytes | None, value: bytes | None, timestamp_ms: int | None = None, partition: int | None = None) -> None:
        """Queue one record."""
        while True:
            try:
                self._producer.produce(topic, value, key, -1 if partition is None else partition, timestamp=timestamp_ms or 0)
                break
            except BufferError:
                self._producer.poll(0.05)
        self._producer.poll(0)

    def publish_run(self, run: Emission) -> None:
        """Queue many records, one by one: each is to be heard of, should it fail."""
        produce_run(self._producer, None, run)
        self._producer.poll(0)

    def flush(self, timeout_s: float = 30.0) -> None:
        """Wait until all records are acknowledged."""
        deadline = time.monotonic() + timeout_s
        while self._producer.flush(0.1):
            if time.monotonic() > deadline:
                raise self._connection.unreachable("publishing", f"{len(self._producer)} records not acknowledged after {timeout_s:.0f} s")
        if self._failed:
            failed, self._failed = self._failed, []
            raise KafkaFailureError(f"{len(failed)} records were not written, first: {failed[0]}")

    def close(self) -> None:
        """Flush and stop."""
        self.flush()

    def _note_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed.append(f"{message.topic()}:{message.partition()}: {error.str()}")
