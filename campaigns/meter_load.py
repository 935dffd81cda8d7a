"""Readings of meters at a rate that never waits for the system, and what became of each: a campaign's input and its oracle."""

import random
import threading
import time
from dataclasses import dataclass

import numpy as np
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from numpy.typing import NDArray

from campaigns.watched_threads import WatchedThreads
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.topics import CATALOGUE

METERS = 1_000
FAULTY_SHARE, FAULT_DELAY_S = 0.02, 1.0
_TICK_S = 0.005


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the answers say.

    Attributes
    ----------
    published, lost, doubled, out_of_order
        Requests; those without an answer, with more than one, and answers behind one of a later journal entry of their partition.
    """

    published: int
    lost: int
    doubled: int
    out_of_order: int

    @property
    def clean(self) -> bool:
        """Whether every request has one answer, in order."""
        return not (self.lost or self.doubled or self.out_of_order)


class MeterLoad:
    """Publishes and reads in two threads for as long as the block lasts.

    Parameters
    ----------
    plan
        Of `campaigns/applications/meters`.
    rate_per_s
        Readings a second; may be set at any time.
    seed
        Of the values: meters, consumption, which readings are faulty.
    capacity
        Readings at most.
    """

    def __init__(self, plan: Plan, bootstrap_servers: str, registry: SchemaRegistry, rate_per_s: float, seed: int, capacity: int) -> None:
        self.rate_per_s = rate_per_s
        self.published = 0
        self.reasons: dict[str, int] = {}
        self._plan = plan
        self._random = random.Random(seed)
        self._due_s = np.zeros(capacity)
        self._answered_s = np.zeros(capacity)
        self._answers = np.zeros(capacity, np.uint8)
        self._newest = dict.fromkeys(range(plan.application.partitions), -1)
        self._out_of_order = 0
        self._stop_publishing, self._stop_reading = threading.Event(), threading.Event()
        self._producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 5, "partitioner": "murmur2_random"})
        self._decoder = ColumnDecoder(registry, (CATALOGUE.parent / "prediction.avsc").read_text())
        settings = {"bootstrap.servers": bootstrap_servers, "group.id": "meter-load", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
        self._consumer = Consumer({**settings, "isolation.level": "read_committed", "fetch.wait.max.ms": 20})
        self._consumer.assign([TopicPartition(plan.topics.predictions, partition, 0) for partition in range(plan.application.partitions)])
        self._threads = WatchedThreads("load", (self._publish, self._read))

    def __enter__(self) -> "MeterLoad":
        self._threads.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_publishing.set()
        self._stop_reading.set()
        self._threads.join()
        self._consumer.close()

    @property
    def answered(self) -> int:
        """Requests with an answer so far."""
        self._threads.check()
        return int(np.count_nonzero(self._answers[: self.published]))

    @property
    def lag_s(self) -> float:
        """Age of the oldest request without an answer."""
        open_requests = np.flatnonzero(self._answers[: self.published] == 0)
        return time.monotonic() - float(self._due_s[open_requests[0]]) if len(open_requests) else 0.0

    def latencies_s(self, begin: int = 0, end: int | None = None) -> NDArray[np.float64]:
        """From the instant each of the requests `begin` to `end` was due until its committed answer was read; NaN without an answer."""
        part = slice(begin, self.published if end is None else end)
        return np.where(self._answers[part] > 0, self._answered_s[part] - self._due_s[part], np.nan)

    def drain(self, deadline_s: float) -> bool:
        """Publish no more and wait for the answers; says whether all came, and waits a little for what should not come."""
        self._stop_publishing.set()
        self._threads.join(0)
        end = time.monotonic() + deadline_s
        while self.answered < self.published and time.monotonic() < end:
            time.sleep(0.05)
        complete = self.answered == self.published
        time.sleep(1.0)
        return complete

    def verdict(self) -> Verdict:
        """Count what is wrong."""
        self._threads.check()
        answers = self._answers[: self.published]
        return Verdict(self.published, int((answers == 0).sum()), int((answers > 1).sum()), self._out_of_order)

    def _publish(self) -> None:
        readings, faults = (self._plan.streams[name].topic for name in ("readings", "faults"))
        draw, begun, owed = self._random, time.monotonic(), 0.0
        waiting: list[tuple[float, int, int]] = []
        while not self._stop_publishing.wait(_TICK_S):
            now = time.monotonic()
            owed += (now - begun) * self.rate_per_s
            begun = now
            wall_ms = time.time_ns() // 1_000_000
            for _ in range(min(int(owed), len(self._due_s) - self.published)):
                number, meter = self.published, draw.randrange(METERS)
                value = f'{{"reading_id":"{number}","meter":"m{meter}","read_at":{wall_ms},"kwh":{draw.random():.3f}}}'
                self._due_s[number] = now
                self._produce(readings, value, f"m{meter}")
                self.published += 1
                if draw.random() < FAULTY_SHARE:
                    waiting.append((now + FAULT_DELAY_S, number, meter))
            owed -= int(owed)
            while waiting and waiting[0][0] <= now:
                _, number, meter = waiting.pop(0)
                value = f'{{"fault_id":"f{number}","reading_id":"{number}","meter":"m{meter}","found_at":{wall_ms},"faulty":1.0}}'
                self._produce(faults, value, f"m{meter}")
            self._producer.poll(0)
        if self._producer.flush(60):
            raise TimeoutError("the broker did not take every reading within a minute")

    def _produce(self, topic: str, value: str, key: str) -> None:
        while True:
            try:
                self._producer.produce(topic, value.encode(), key.encode())
                return
            except BufferError:
                self._producer.poll(0.05)

    def _read(self) -> None:
        while not self._stop_reading.is_set():
            by_partition: dict[int, list[bytes]] = {}
            for message in self._consumer.consume(5_000, 0.05):
                error = message.error()
                if error is not None and not error.retriable():
                    raise KafkaException(error)
                if error is None:
                    by_partition.setdefault(message.partition() or 0, []).append(message.value() or b"")
            now = time.monotonic()
            for partition, values in by_partition.items():
                decoded = self._decoder.decode(values)
                if decoded.errors:
                    raise ValueError(f"{len(decoded.errors)} predictions cannot be read")
                batch = decoded.batch
                numbers = np.array(batch.column("request_id").to_pylist(), np.int64)
                fresh = numbers[self._answers[numbers] == 0]
                self._answered_s[fresh] = now
                np.add.at(self._answers, numbers, np.uint8(1))
                offsets = np.concatenate([[self._newest[partition]], int64_ms(batch.column("journal_offset"))])
                self._out_of_order += int((np.diff(offsets) <= 0).sum())
                self._newest[partition] = int(offsets.max())
                for reason in batch.column("reason").to_pylist():
                    self.reasons[reason or ""] = self.reasons.get(reason or "", 0) + 1
