"""Open-loop latency: publish at a fixed rate whatever the system does, and time each event until its committed result is read."""

import threading
import time
from dataclasses import asdict, dataclass

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition
from numpy.typing import NDArray

from benchmarks.payment_stream import EncodedPayments
from benchmarks.throughput import RunFailed

_DRAIN_S = 30.0
# Every result begins with the payment's id, "p" and eleven digits, after header and length.
_DIGITS = slice(7, 18)


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from the instant an event was due to the instant its result was read by a read_committed consumer.

    Attributes
    ----------
    missing
        Events after the warm-up whose result did not come within half a minute of the last publication.
    driver_behind_ms
        How late the driver itself was at most (this counts against every system alike).
    """

    events_per_s: int
    events: int
    missing: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    driver_behind_ms: float

    def to_dict(self) -> dict[str, float]:
        """As a plain mapping."""
        return asdict(self)


class _Reader(threading.Thread):
    def __init__(self, bootstrap_servers: str, topic: str, events: int) -> None:
        super().__init__(daemon=True)
        self.received: NDArray[np.float64] = np.zeros(events)
        self.count = 0
        self.stopped = threading.Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": "benchmark-latency",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "log_level": 2,
                "fetch.queue.backoff.ms": 5,
            }
        )
        self._consumer.assign([TopicPartition(topic, 0, 0)])

    def run(self) -> None:
        while not self.stopped.is_set():
            messages = self._consumer.consume(1, 0.1)
            if not messages:
                continue
            messages += self._consumer.consume(2_000, 0.0)
            now = time.perf_counter()
            for message in messages:
                value = message.value()
                if message.error() is None and value is not None:
                    number = int(value[_DIGITS])
                    if self.received[number] == 0.0:
                        self.received[number] = now
                        self.count += 1
        self._consumer.close()


def measure_latency(
    bootstrap_servers: str, source: str, output: str, encoded: EncodedPayments, events_per_s: int, warm_up: int, ready_events: int = 0
) -> Latency:
    """Publish a stretch and wait for its results.

    Parameters
    ----------
    source, output
        Topics with one partition each; `output` exists and is empty.
    encoded
        The whole stretch, payment numbers from 0 in order.
    warm_up
        Events at the beginning that are not counted.
    ready_events
        So many are published first and waited for before the clock starts: the system is up when their results come.

    Raises
    ------
    RunFailed
        Nothing came back.
    """
    n = len(encoded.values)
    reader = _Reader(bootstrap_servers, output, n)
    producer = Producer(
        {"bootstrap.servers": bootstrap_servers, "linger.ms": 2, "acks": 1, "log_level": 2, "queue.buffering.max.messages": 1_000_000}
    )
    reader.start()
    due = np.zeros(n)
    behind = 0.0
    try:
        _publish(producer, source, encoded, 0, ready_events)
        _await(reader, ready_events, 90.0)
        start = time.perf_counter()
        due[ready_events:] = start + np.arange(n - ready_events) / events_per_s
        i = ready_events
        while i < n:
            now = time.perf_counter()
            j = min(n, ready_events + int((now - start) * events_per_s) + 1)
            if j > i:
                behind = max(behind, now - due[i])
                _publish(producer, source, encoded, i, j)
                i = j
            time.sleep(max(0.0, min(0.001, due[min(i, n - 1)] - time.perf_counter())))
        if producer.flush(30):
            raise RunFailed(f"{source}: the broker did not take every event within 30 s")
        deadline = time.perf_counter() + _DRAIN_S
        while reader.count < n and time.perf_counter() < deadline:
            time.sleep(0.02)
    finally:
        reader.stopped.set()
        reader.join()
    return _summary(due, reader.received, ready_events + warm_up, events_per_s, behind)


def _publish(producer: Producer, topic: str, encoded: EncodedPayments, begin: int, end: int) -> None:
    for i in range(begin, end):
        producer.produce(topic, encoded.values[i], encoded.keys[i], timestamp=encoded.timestamps_ms[i])
    producer.poll(0)


def _await(reader: _Reader, count: int, patience_s: float) -> None:
    deadline = time.perf_counter() + patience_s
    while reader.count < count:
        if time.perf_counter() > deadline:
            raise RunFailed(f"expected the results of the first {count} events within {patience_s:.0f} s, {reader.count} came")
        time.sleep(0.02)


def _summary(due: NDArray[np.float64], received: NDArray[np.float64], counted_from: int, events_per_s: int, behind: float) -> Latency:
    due, received = due[counted_from:], received[counted_from:]
    answered = received > 0
    if not answered.any():
        raise RunFailed(f"no result came for {len(due):,} events")
    latencies = (received[answered] - due[answered]) * 1e3
    p50, p90, p99 = np.percentile(latencies, [50, 90, 99]).tolist()
    return Latency(events_per_s, len(due), int((~answered).sum()), p50, p90, p99, float(latencies.max()), behind * 1e3)
