"""Hands a whole run of records to librdkafka in compiled code, without a Python call per record.

confluent-kafka's `produce` costs more than a microsecond a record, its `produce_batch` as much and takes no timestamps. Where librdkafka is not one
that is known (`tidemill.shared.kafka.librdkafka`), `BulkProduce.of` gives None and the caller produces record by record.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from confluent_kafka import KafkaError, Producer
from numba import njit
from numpy.typing import NDArray

from tidemill.shared.kafka.librdkafka import address_of, call3, handle_of, library
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.packed import Packed
from tidemill.shared.log.records import Emission

# rd_kafka_vu_t: a type in the first word, then a union of 64 bytes.
_VU_WORDS = 9
_TOPIC, _PARTITION, _VALUE, _KEY, _FLAGS, _TIMESTAMP = 2, 3, 4, 5, 7, 8
# rd_kafka_message_t: error, topic, partition, payload and its length, key and its length, offset, private.
_MESSAGE_WORDS, _PAYLOAD, _KEY_PLACE = 9, 3, 5
_COPY = 2
_ARGUMENTS = 6
_NULL = -1
# An empty value is no null: it has an address, too.
_SOMETHING = b"-"
Lengths = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Room:
    """Limits of a producer's queue, and of one record, as its settings name them."""

    messages: int
    bytes: int
    message_bytes: int


@njit(cache=True, nogil=True)
def _produce_each(function, handle, arguments, place, keys, key_bytes, values, value_bytes, times):  # pragma: no cover
    """Produce records in order; returns how many are done and the error that ended it (0: none).

    Parameters
    ----------
    arguments : int64 array
        Of `rd_kafka_produceva`, filled in but for key, value and time; `place` is its address.
    keys, values
        Addresses of their bytes, one after the other.
    key_bytes, value_bytes, times : int64 arrays, shape (n,)
        Lengths, -1 for null.
    """
    for i in range(times.size):
        m, n = key_bytes[i], value_bytes[i]
        arguments[2 * _VU_WORDS + 1], arguments[2 * _VU_WORDS + 2] = (values, n) if n >= 0 else (0, 0)
        arguments[3 * _VU_WORDS + 1], arguments[3 * _VU_WORDS + 2] = (keys, m) if m >= 0 else (0, 0)
        arguments[4 * _VU_WORDS + 1] = times[i]
        error = call3(function, handle, place, _ARGUMENTS)
        if error != 0:
            return i, error
        keys += max(m, 0)
        values += max(n, 0)
    return times.size, 0


@njit(cache=True, nogil=True)
def _write_messages(messages, keys, key_bytes, values, value_bytes):  # pragma: no cover
    """Fill in `rd_kafka_message_t` for `rd_kafka_produce_batch`: parameters as above, `messages` an int64 array of shape (n, words)."""
    for i in range(messages.shape[0]):
        m, n = key_bytes[i], value_bytes[i]
        for word in range(messages.shape[1]):
            messages[i, word] = 0
        messages[i, _PAYLOAD], messages[i, _PAYLOAD + 1] = (values, n) if n >= 0 else (0, 0)
        messages[i, _KEY_PLACE], messages[i, _KEY_PLACE + 1] = (keys, m) if m >= 0 else (0, 0)
        keys += max(m, 0)
        values += max(n, 0)


class RefusedError(TransientError):
    """The client's queue did not take a run whole, and the records after the first refused may be in it: the transaction must be aborted."""


class BulkProduce:
    """Produces runs through one `Producer`; made by `of`.

    A run without timestamps goes over in one call that takes the queue's lock once; one with timestamps, or too large for that, record by record.
    """

    def __init__(self, producer: Producer, room: Room, native: ctypes.CDLL) -> None:
        self._producer = producer
        self._room = room
        self._bytes = 0
        self._library = native
        self._handle = handle_of(producer)
        self._function = address_of(native.rd_kafka_produceva)
        self._arguments = np.zeros(_ARGUMENTS * _VU_WORDS, np.int64)
        kinds = (_TOPIC, _PARTITION, _VALUE, _KEY, _TIMESTAMP, _FLAGS)
        self._arguments[::_VU_WORDS] = kinds
        self._arguments[kinds.index(_FLAGS) * _VU_WORDS + 1] = _COPY
        self._topics: dict[str, int] = {}

    def __del__(self) -> None:
        # librdkafka wants its topics back before the client goes, which the attribute keeps until here.
        for topic in self._topics.values():
            self._library.rd_kafka_topic_destroy(topic)

    @classmethod
    def of(cls, producer: Producer, room: Room) -> "BulkProduce | None":
        """Return the bulk side of a producer, None where it is not known to work."""
        native = library()
        return None if native is None else cls(producer, room, native)

    def produce(self, run: Emission, begin: int, end: int) -> int:
        """Queue records `begin` to `end` of a run until one is refused; returns the number of the first that is not queued.

        The one that was refused is for the caller to produce by itself, which gives its error.

        Raises
        ------
        RefusedError
            A call for many was refused some of them.
        """
        topic = self._topics.get(run.topic) or self._open(run.topic)
        keys, key_bytes, _keys = _parts(run.keys[begin:end])
        values, value_bytes, _values = _parts(run.values[begin:end])
        if self._has_room(key_bytes, value_bytes) and run.timestamps_ms is None:
            self._produce_at_once(topic, run, keys, key_bytes, values, value_bytes)
            return end
        # librdkafka replaces a timestamp of zero by the current time.
        times = np.zeros(end - begin, np.int64) if run.timestamps_ms is None else np.ascontiguousarray(run.timestamps_ms[begin:end], np.int64)
        arguments = self._arguments
        arguments[1] = topic
        arguments[_VU_WORDS + 1] = run.partition
        done, error = _produce_each(self._function, self._handle, arguments, arguments.ctypes.data, keys, key_bytes, values, value_bytes, times)
        if error:
            self._library.rd_kafka_error_destroy(error)
        return begin + int(done)

    def _produce_at_once(self, topic: int, run: Emission, keys: int, key_bytes: Lengths, values: int, value_bytes: Lengths) -> None:
        messages = np.empty((len(key_bytes), _MESSAGE_WORDS), np.int64)
        _write_messages(messages, keys, key_bytes, values, value_bytes)
        done = self._library.rd_kafka_produce_batch(topic, run.partition, _COPY, messages.ctypes.data, len(messages))
        if done < len(messages):
            # The first word of a message: its error, then padding.
            codes = messages[:, 0].astype(np.int32)
            row = int(np.flatnonzero(codes)[0])
            reason = KafkaError(int(codes[row])).str()
            raise RefusedError(f"produce to {run.topic}:{run.partition}: {len(messages) - done} of {len(messages)} records refused: {reason}")

    def _has_room(self, key_bytes: Lengths, value_bytes: Lengths) -> bool:
        """Say whether the queue takes a run for sure; of one taken in part the caller could not tell which records are in it."""
        waiting, room = len(self._producer), self._room
        size = np.maximum(key_bytes, 0) + np.maximum(value_bytes, 0)
        self._bytes = int(size.sum()) + (self._bytes if waiting else 0)
        return waiting + len(size) < room.messages // 2 and self._bytes < room.bytes // 2 and int(size.max(initial=0)) < room.message_bytes // 2

    def _open(self, name: str) -> int:
        topic = self._library.rd_kafka_topic_new(self._handle, name.encode(), None)
        if not topic:
            raise RuntimeError(f"librdkafka gives no handle of the topic {name}")
        self._topics[name] = topic
        return int(topic)


def _parts(items: Sequence[bytes | None]) -> tuple[int, Lengths, object]:
    """Return the address of the first, the lengths (-1: null), and what must stay alive meanwhile."""
    packed = Packed.of(items)
    if packed is not None:
        lengths = packed.lengths
        return (packed.address if packed.content.size else _address(_SOMETHING)), lengths, packed
    content = b"".join(item for item in items if item is not None) or _SOMETHING
    lengths = np.fromiter((_NULL if item is None else len(item) for item in items), np.int64, len(items))
    return _address(content), lengths, content


def _address(content: bytes) -> int:
    return int(np.frombuffer(content, np.uint8).ctypes.data)
