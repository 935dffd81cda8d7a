"""Takes messages from librdkafka in compiled code, as columns, without a Python object for each.

confluent-kafka makes an object of every message, with three more in it: with the columns made of them again, a microsecond a record. Here partition
queues are forwarded to a queue of ours, bypassing the client's. Poll the client's queue as well: rebalances and errors arrive there. For a librdkafka
that is not known (`tidemill.shared.kafka.librdkafka`), `BulkConsume.of` returns None and the caller consumes with confluent-kafka.
"""

import ctypes
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from confluent_kafka import Consumer, KafkaError
from numba import njit
from numpy.typing import NDArray

from tidemill.shared.kafka.librdkafka import address_of, call1, call2, copy, handle_of, library, load
from tidemill.shared.log.packed import Packed
from tidemill.shared.log.records import Records, TopicPartition

_AGAIN_S = 0.005
# rd_kafka_message_t, in bytes: error, topic, partition, payload and its length, key and its length, offset.
_TOPIC, _PARTITION, _PAYLOAD, _SIZE, _KEY, _KEY_SIZE, _OFFSET = 8, 16, 24, 32, 40, 48, 56


class QueueEvent(NamedTuple):
    """What a partition's queue says besides messages: its end, or an error."""

    place: TopicPartition
    offset: int
    error: KafkaError


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one look at the queues gave."""

    runs: list[Records]
    events: list[QueueEvent]


@njit(cache=True, nogil=True)
def _look(messages, timestamp, place, errors, topics, partitions, offsets, times, key_bytes, value_bytes):  # pragma: no cover
    """Read what messages say of themselves.

    Parameters
    ----------
    messages : int64 array, shape (n,)
        Addresses of `rd_kafka_message_t`.
    timestamp
        Address of `rd_kafka_message_timestamp`, which writes the kind of timestamp to `place`.
    errors ... value_bytes : int64 arrays, shape (n,)
        Filled in; lengths are -1 for null.
    """
    low = np.int64(0xFFFFFFFF)
    for i in range(messages.size):
        message = messages[i]
        errors[i] = np.int64(np.int32(load(message) & low))
        topics[i] = load(message + _TOPIC)
        partitions[i] = np.int64(np.int32(load(message + _PARTITION) & low))
        offsets[i] = load(message + _OFFSET)
        times[i] = call2(timestamp, message, place)
        key_bytes[i] = load(message + _KEY_SIZE) if load(message + _KEY) != 0 else -1
        value_bytes[i] = load(message + _SIZE) if load(message + _PAYLOAD) != 0 else -1


@njit(cache=True, nogil=True)
def _pack(messages, field, lengths, content, stops):  # pragma: no cover
    """Copy a field of messages one after the other: to the address `content`, their ends to `stops`."""
    at = np.int64(0)
    stops[0] = 0
    for i in range(messages.size):
        size = lengths[i]
        if size > 0:
            copy(content + at, load(messages[i] + field), size)
            at += size
        stops[i + 1] = at


@njit(cache=True, nogil=True)
def _give_back(messages, destroy):  # pragma: no cover
    """Free messages."""
    for i in range(messages.size):
        call1(destroy, messages[i])


class BulkConsume:
    """The partitions of one `Consumer`, read past its own queue; made by `of`.

    librdkafka does not lead a partition elsewhere once an application has led it, but when it stops to fetch, which may be some time after
    another assignment, it lets the queue stand alone. So partitions are led here again until something has come; nothing is lost or reordered by it,
    since what stands in a queue goes along.
    """

    def __init__(self, consumer: Consumer, native: ctypes.CDLL) -> None:
        self._library = native
        # Kept: messages that wait in the queue hold the client's topics, for which it would wait for ever when it goes before the queue does.
        self._consumer = consumer
        self._handle = handle_of(consumer)
        self._queue: int | None = native.rd_kafka_queue_new(self._handle)
        self._timestamp = address_of(native.rd_kafka_message_timestamp)
        self._destroy = address_of(native.rd_kafka_message_destroy)
        self._kind = np.zeros(1, np.int64)
        self._messages = np.zeros(0, np.int64)
        self._next: dict[TopicPartition, int] = {}
        self._silent: set[TopicPartition] = set()

    def __del__(self) -> None:
        self.close()

    @classmethod
    def of(cls, consumer: Consumer) -> "BulkConsume | None":
        """Return the bulk side of a consumer, None where it is not known to work."""
        native = library()
        return None if native is None else cls(consumer, native)

    def begin(self, partitions: Iterable[TopicPartition]) -> None:
        """Read these partitions; to be called before they are assigned, so that nothing gets into the client's queue."""
        self._next, self._silent = {}, set(partitions)
        self._lead()

    def _lead(self) -> None:
        for topic, partition in self._silent:
            own = self._library.rd_kafka_queue_get_partition(self._handle, topic.encode(), partition)
            if not own:
                raise RuntimeError(f"librdkafka gives no queue of {topic}:{partition}")
            self._library.rd_kafka_queue_forward(own, self._queue)
            self._library.rd_kafka_queue_destroy(own)

    def close(self) -> None:
        """Give the queue back; before the client is closed."""
        if self._queue is not None:
            self._library.rd_kafka_queue_destroy(self._queue)
            self._queue = None

    def take(self, limit: int, timeout_s: float, linger_s: float) -> Fetched:
        """Take up to `limit` messages: wait for the first (less long after an assignment), then until there are so many or `linger_s` is over.

        Raises
        ------
        RuntimeError
            Offsets of a partition fell.
        """
        if len(self._messages) < limit:
            self._messages = np.zeros(limit, np.int64)
        if self._silent:
            self._lead()
            timeout_s = min(timeout_s, _AGAIN_S)
        place, n = self._messages.ctypes.data, 0
        for count, wait_s in ((1, timeout_s), (limit - 1, linger_s)):
            if count:
                taken = self._library.rd_kafka_consume_batch_queue(self._queue, round(wait_s * 1e3), place + 8 * n, count)
                n += max(taken, 0)
            if not n:
                return Fetched([], [])
        messages = self._messages[:n]
        try:
            return self._read(messages)
        finally:
            _give_back(messages, self._destroy)

    def _read(self, messages: NDArray[np.int64]) -> Fetched:
        n = len(messages)
        errors, topics, partitions, offsets, times, key_bytes, value_bytes = fields = np.empty((7, n), np.int64)
        _look(messages, self._timestamp, self._kind.ctypes.data, *fields)
        if not errors.any() and (topics == topics[0]).all() and (partitions == partitions[0]).all():
            return Fetched([self._run(messages, int(topics[0]), int(partitions[0]), offsets, times, key_bytes, value_bytes)], [])
        events = [
            QueueEvent(
                TopicPartition(self._name(int(topics[i])), int(partitions[i])),
                int(offsets[i]),
                KafkaError(int(errors[i]), (self._library.rd_kafka_message_errstr(int(messages[i])) or b"").decode("utf-8", "replace")),
            )
            for i in np.flatnonzero(errors).tolist()
        ]
        self._silent -= {event.place for event in events}
        runs = []
        good = errors == 0
        for topic, partition in dict.fromkeys(zip(topics[good].tolist(), partitions[good].tolist(), strict=True)):
            rows = np.flatnonzero(good & (topics == topic) & (partitions == partition))
            runs.append(self._run(messages[rows], topic, partition, offsets[rows], times[rows], key_bytes[rows], value_bytes[rows]))
        return Fetched(runs, events)

    def _run(
        self,
        messages: NDArray[np.int64],
        topic: int,
        partition: int,
        offsets: NDArray[np.int64],
        times: NDArray[np.int64],
        key_bytes: NDArray[np.int64],
        value_bytes: NDArray[np.int64],
    ) -> Records:
        place = TopicPartition(self._name(topic), partition)
        if int(offsets[0]) < self._next.get(place, 0):
            raise RuntimeError(f"{place.topic}:{partition}: expected offsets from {self._next[place]}, got {int(offsets[0])} out of order")
        self._next[place] = int(offsets[-1]) + 1
        self._silent.discard(place)
        keys, values = _column(messages, _KEY, key_bytes), _column(messages, _PAYLOAD, value_bytes)
        return Records(place.topic, partition, offsets, times, keys, values)

    def _name(self, topic: int) -> str:
        name: bytes = self._library.rd_kafka_topic_name(topic)
        return name.decode()


def _column(messages: NDArray[np.int64], field: int, lengths: NDArray[np.int64]) -> "Packed | list[bytes | None]":
    stops = np.empty(len(messages) + 1, np.int64)
    content = np.empty(int(np.maximum(lengths, 0).sum()), np.uint8)
    _pack(messages, field, lengths, content.ctypes.data, stops)
    packed = Packed(content, stops)
    if int(lengths.min()) >= 0:
        return packed
    return [None if size < 0 else value for value, size in zip(packed, lengths.tolist(), strict=True)]
