"""Payments at a steady rate with some hostile records among them, disputes after them, and when each payment was answered."""

import json
import random
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from campaigns.hostile.messages import GOOD_ACCOUNTS, Encode, Grammar, good_payment
from campaigns.watched_threads import WatchedThreads
from tidemill.audit.history import prediction_schema
from tidemill.runs.watch import record_codec
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.partitioning import murmur2_partition

_LARGEST = 1_000_000
_TICK_S = 0.01
_LABEL_DELAY_S = 1.0
_SILENT_S = 20.0
_HOUR_MS = 3_600_000
# A gate wants three days at least, and as many again before them.
_DAYS = 14
_EXPENSIVE = 450.0


class Traffic:
    """Publishes in one thread and reads answers in another for as long as the block lasts.

    What is published is published for good: the producer tries until the broker has it. (A copy that it makes on the way is one to the system.)

    Parameters
    ----------
    rate_per_s
        Good payments; hostile records come on top, one for every `good_per_hostile`.
    """

    def __init__(
        self,
        plan: Plan,
        bootstrap_servers: str,
        registry: SchemaRegistry,
        encode: Encode,
        grammar: Grammar,
        seed: int,
        rate_per_s: float,
        good_per_hostile: int = 10,
    ) -> None:
        self._plan, self._encode, self._grammar, self._seed = plan, encode, grammar, seed
        self._rate, self._good_per_hostile = rate_per_s, good_per_hostile
        self._bootstrap = bootstrap_servers
        self._rng = random.Random(f"traffic {seed}")
        # Two, as a broker that refuses a hostile record refuses what came with it in one batch.
        self._producer, self._attacker = _producer(bootstrap_servers), _producer(bootstrap_servers)
        self._decoder = ColumnDecoder(registry, prediction_schema())
        self.good: dict[str, dict[str, Any]] = {}
        self.partition: list[int] = []
        self.due_s: list[float] = []
        self.answered_s: dict[str, float] = {}
        self.labelled: dict[str, float] = {}
        self.deployments: list[dict[str, Any]] = []
        self._deployment = record_codec(registry, plan.topics.deployments, "Deployment")
        self.hostile = 0
        self.refused: list[str] = []
        self._labels: deque[tuple[float, str]] = deque()
        self._flows, self._finished = threading.Event(), threading.Event()
        self._threads = WatchedThreads("traffic", (self._publish, self._read))

    def __enter__(self) -> "Traffic":
        self._threads.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finished.set()
        self._threads.join()

    def remember(self, payments: int, now_ms: int) -> None:
        """Publish what came in the days before, with its labels, ahead of everything: models learn from it."""
        step_ms = _DAYS * 24 * _HOUR_MS // payments
        for number in range(payments):
            at_ms = now_ms - 2 * _HOUR_MS - (payments - number) * step_ms
            name = self._payment(at_ms, at_ms)
            # As soon as later ones: what is as old as labels usually take is judged on, so that candidates are judged within minutes.
            labelled_ms = at_ms + int(_LABEL_DELAY_S * 1_000)
            self._label(name, labelled_ms, labelled_ms)
        for number, account in enumerate(GOOD_ACCOUNTS):
            row = {"account": account, "changed_at": now_ms - 2 * _HOUR_MS, "age": 20 + number, "score": number / 7}
            self._produce("customers", self._encode("customers", row), account.encode(), now_ms - 2 * _HOUR_MS)
        if self._producer.flush(60):
            raise TimeoutError("the broker did not take the history within a minute")

    def flow(self) -> None:
        """Publish from now on."""
        self._flows.set()

    def rest(self) -> None:
        """Publish nothing more for now, and wait until the broker has everything, disputes included."""
        self._flows.clear()
        end = time.monotonic() + 180.0
        while self._waiting and time.monotonic() < end:
            self._check()
            self._attacker.poll(0)
            time.sleep(0.05)
        if self._waiting:
            raise TimeoutError(f"the broker did not take {self._waiting} records within three minutes")

    @property
    def _waiting(self) -> int:
        return len(self._labels) + len(self._producer) + len(self._attacker)

    def mark(self) -> int:
        """Number of payments published so far."""
        self._check()
        return len(self.due_s)

    def answered_since(self, mark: int, partitions: Sequence[int]) -> float | None:
        """When of every partition one payment was answered that came after a mark; None as long as it was not."""
        answers = self._first_answers(mark)
        return max(answers.values()) if len(answers) == len(partitions) else None

    def silent_since(self, mark: int, partitions: Sequence[int]) -> list[int]:
        """Partitions that have answered no payment that came after a mark."""
        answers = self._first_answers(mark)
        return [partition for partition in partitions if partition not in answers]

    def _first_answers(self, mark: int) -> dict[int, float]:
        first: dict[int, float] = {}
        for number in range(mark, len(self.due_s)):
            at, partition = self.answered_s.get(f"p{number}"), self.partition[number]
            if at is not None and at < first.get(partition, float("inf")):
                first[partition] = at
        return first

    @property
    def open_requests(self) -> int:
        """Payments without an answer."""
        return len(self.good) - len(self.answered_s)

    def _check(self) -> None:
        self._threads.check()
        if self.refused:
            raise RuntimeError(f"the broker refused the campaign's own records: {self.refused[0]}")

    def _publish(self) -> None:
        begun, owed, since_hostile = time.monotonic(), 0.0, 0
        while not self._finished.is_set():
            now = time.monotonic()
            owed = owed + (now - begun) * self._rate if self._flows.is_set() else 0.0
            begun = now
            for _ in range(int(owed)):
                wall_ms = time.time_ns() // 1_000_000
                name = self._payment(wall_ms, 0)
                self._labels.append((now + _LABEL_DELAY_S, name))
                since_hostile += 1
                if since_hostile >= self._good_per_hostile:
                    since_hostile = 0
                    self._attack(wall_ms)
            owed -= int(owed)
            while self._labels and (self._labels[0][0] <= now or not self._flows.is_set()):
                wall_ms = time.time_ns() // 1_000_000
                self._label(self._labels[0][1], wall_ms, 0)
                self._labels.popleft()
            self._producer.poll(_TICK_S)

    def _payment(self, at_ms: int, stamp_ms: int) -> str:
        number = len(self.good)
        record = good_payment(number, at_ms, self._seed)
        name, account = str(record["payment_id"]), str(record["account"])
        self.good[name] = record
        self.partition.append(murmur2_partition(account.encode(), self._plan.application.partitions))
        self.due_s.append(time.monotonic())
        self._produce("payments", json.dumps(record).encode() if number % 2 else self._encode("payments", record), account.encode(), stamp_ms)
        return name

    def _label(self, name: str, at_ms: int, stamp_ms: int) -> None:
        payment = self.good[name]
        # Most expensive payments are fraud, and few others: there is something to learn.
        fraud = float(self._rng.random() < (0.8 if payment["amount"] > _EXPENSIVE else 0.05))
        dispute = {"dispute_id": f"d-{name}", "payment_id": name, "account": payment["account"], "disputed_at": at_ms, "fraud": fraud}
        self.labelled[name] = fraud
        self._produce("disputes", self._encode("disputes", dispute), payment["account"].encode(), stamp_ms)

    def _attack(self, wall_ms: int) -> None:
        """Send a hostile record, which the broker may refuse."""
        message = self._grammar.next(wall_ms)
        if message.channel == "http" or len(message.value or b"") > _LARGEST:
            return
        topic = self._plan.topics.commands if message.stream == "commands" else self._plan.streams[message.stream].topic
        partition = -1 if message.partition is None else message.partition
        with suppress(BufferError):  # The broker is away for long.
            self._attacker.produce(topic, message.value, message.key, partition, timestamp=message.timestamp_ms or 0)
            self._attacker.poll(0)
            self.hostile += 1

    def _produce(self, stream: str, value: bytes, key: bytes, stamp_ms: int) -> None:
        while True:
            try:
                self._producer.produce(self._plan.streams[stream].topic, value, key, on_delivery=self._delivered, timestamp=stamp_ms)
                return
            except BufferError:
                self._producer.poll(0.05)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.refused.append(f"{message.topic()}: {error.str()}")

    def _read(self) -> None:
        topics = self._plan.topics
        places = {(topics.predictions, partition): 0 for partition in range(self._plan.application.partitions)} | {(topics.deployments, 0): 0}
        consumer, heard = self._consumer(places), time.monotonic()
        while not self._finished.is_set():
            values: list[bytes] = []
            events: list[bytes] = []
            for message in consumer.consume(2_000, 0.05):
                if message.error() is None:
                    topic = message.topic() or ""
                    places[topic, message.partition() or 0] = (message.offset() or 0) + 1
                    (events if topic == topics.deployments else values).append(message.value() or b"")
            now = time.monotonic()
            if values or events:
                heard = now
                self._note(values, events, now)
            elif now - heard > _SILENT_S:
                # A client that has lost its broker may wait for ever for the connection it has given up (librdkafka's issue 5511).
                consumer.close()
                consumer, heard = self._consumer(places), now
        consumer.close()

    def _note(self, values: list[bytes], events: list[bytes], now: float) -> None:
        while not self._finished.is_set():
            with suppress(TransientError, OSError):  # The registry may be away.
                deployments = [self._deployment.decode(value) for value in events]
                names = self._decoder.decode(values).batch.column("request_id").to_pylist() if values else []
                self.deployments += deployments
                for name in names:
                    if name in self.good:
                        self.answered_s.setdefault(name, now)
                return
            time.sleep(0.2)

    def _consumer(self, places: Mapping[tuple[str, int], int]) -> Consumer:
        settings = {"bootstrap.servers": self._bootstrap, "group.id": "chaos", "enable.auto.commit": False, "isolation.level": "read_committed"}
        consumer = Consumer({**settings, "fetch.wait.max.ms": 20, "reconnect.backoff.max.ms": 500, "log_level": 0})
        consumer.assign([TopicPartition(topic, partition, offset) for (topic, partition), offset in places.items()])
        return consumer


def _producer(bootstrap_servers: str) -> Producer:
    """Make a producer that tries until the broker has taken what it has."""
    return Producer(
        {
            "bootstrap.servers": bootstrap_servers, "partitioner": "murmur2_random", "linger.ms": 2, "enable.idempotence": True,
            "message.timeout.ms": 600_000, "message.max.bytes": 10_000_000, "reconnect.backoff.max.ms": 500, "log_level": 0,
        }
    )  # fmt: skip
