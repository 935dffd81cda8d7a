"""Open-loop load: publish at a fixed rate, whatever the system does, and time each request until its prediction is committed."""

import gc
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, Producer, TopicPartition
from numpy.typing import NDArray

from tidemill.runs.kafka_clients import client_settings, end_of
from tidemill.shared.observability.settings import KafkaSettings

_IDLE_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What one stretch of load measured.

    Attributes
    ----------
    latencies_ms : float64 array, shape (answered,)
        From the instant a request was *due* to be published (so a slow publisher counts against the system) to the
        instant its committed prediction was read.
    events_per_s
        Answered requests over the time from the first publication to the last prediction.
    """

    offered_per_s: float
    published: int
    answered: int
    latencies_ms: NDArray[np.float64]
    events_per_s: float

    def percentile(self, q: float) -> float:
        """Latency percentile, milliseconds."""
        return float(np.percentile(self.latencies_ms, q))


class _Reader(threading.Thread):
    """Notes when each request's prediction was read; the request number stands in the record's key."""

    def __init__(self, kafka: KafkaSettings, topic: str, partitions: int, numbers: dict[bytes, int]) -> None:
        super().__init__(daemon=True)
        special = {
            "group.id": "tidemill-load",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 20,
            "fetch.queue.backoff.ms": 5,
        }
        self._consumer = Consumer(client_settings(kafka, special))
        self._consumer.assign([TopicPartition(topic, p, end_of(self._consumer, kafka, topic, p)) for p in range(partitions)])
        self._numbers = numbers
        self.received = np.zeros(len(numbers))
        self.answered = 0
        self.finished = threading.Event()

    def run(self) -> None:
        last = time.monotonic()
        while self.answered < len(self._numbers) and time.monotonic() - last < _IDLE_LIMIT_S and not self.finished.is_set():
            messages = self._consumer.consume(2_000, 0.05)
            now = time.perf_counter()
            for message in messages:
                number = self._numbers.get(message.key() or b"")
                if number is not None and self.received[number] == 0.0:
                    self.received[number] = now
                    self.answered += 1
                    last = time.monotonic()
        self.finished.set()
        self._consumer.close()


def stamp_requests(batch: pa.RecordBatch, prefix: str, event_id: str, event_time: str, now_ms: int) -> pa.RecordBatch:
    """Return the rows as new requests: fresh event ids and the present as their event time."""
    n = batch.num_rows
    columns = {name: batch.column(i) for i, name in enumerate(batch.schema.names)}
    columns[event_id] = pa.array([f"{prefix}-{i:07d}" for i in range(n)])
    columns[event_time] = pa.array(np.full(n, now_ms), pa.int64()).cast(batch.schema.field(event_time).type)
    return pa.RecordBatch.from_arrays([columns[name] for name in batch.schema.names], schema=batch.schema)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep the collector, which stops publisher and reader alike, from looking through all that this process holds besides."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@_undisturbed()
def run_load(
    kafka: KafkaSettings, raw_topic: str, predictions_topic: str, partitions: int, keys: Sequence[bytes], values: Sequence[bytes], rate_per_s: float
) -> LoadResult:
    """Publish one stretch and wait for the answers.

    Parameters
    ----------
    keys
        Partition keys, distinct: predictions carry the same key, by which they are matched.
    values
        Encoded events.
    rate_per_s
        Offered rate. The publisher never waits for the system.

    Raises
    ------
    TimeoutError
        When no prediction came for a minute although some are missing.
    """
    n = len(values)
    reader = _Reader(kafka, predictions_topic, partitions, {key: i for i, key in enumerate(keys)})
    special = {"linger.ms": 5, "partitioner": "murmur2_random", "queue.buffering.max.messages": 2 * n + 1000}
    producer = Producer(client_settings(kafka, special))
    reader.start()
    due = np.arange(n) / rate_per_s
    start = time.perf_counter()
    i = 0
    while i < n:
        ready = min(n, int((time.perf_counter() - start) * rate_per_s) + 1)
        for j in range(i, ready):
            producer.produce(raw_topic, values[j], keys[j])
        i = ready
        producer.poll(0)
        wait = start + i / rate_per_s - time.perf_counter()
        if wait > 0:
            reader.finished.wait(min(wait, 0.002))
    if producer.flush(30):
        raise TimeoutError(f"{raw_topic}: the broker did not take every event within 30 s")
    reader.join()
    answered = reader.received > 0
    if not answered.all():
        raise TimeoutError(
            f"{int((~answered).sum())} of {n} requests had no prediction in {predictions_topic} {_IDLE_LIMIT_S:.0f} s after the last one came"
        )
    seconds = float(reader.received.max() - start)
    return LoadResult(rate_per_s, n, int(answered.sum()), (reader.received - start - due) * 1e3, n / seconds)
