"""Sends good and hostile messages at their rates, whatever the system does, and times the good ones until they are answered."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka import Message as KafkaMessage
from numpy.typing import NDArray

from campaigns.hostile.messages import GOOD_ACCOUNTS, Encode, Grammar, Message, good_payment
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.columns import ColumnDecoder

_HTTP_THREADS, _TRIES = 4, 5
Stretch = tuple[str, float, float]


@dataclass(slots=True)
class Sent:
    """What was sent, and what HTTP answered.

    Attributes
    ----------
    good
        By payment id, the record as it was sent.
    due
        By payment id, when it was to be sent (`time.perf_counter`).
    stretch
        By payment id, the stretch it was sent in.
    refused
        Hostile messages that the broker itself refused, by its error.
    disconnects
        Requests that the gateway ended without an answer, by what the client calls it.
    failures
        What went wrong in the campaign itself.
    """

    good: dict[str, dict[str, Any]] = field(default_factory=dict)
    due: dict[str, float] = field(default_factory=dict)
    stretch: dict[str, str] = field(default_factory=dict)
    hostile: Counter[str] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    disconnects: Counter[str] = field(default_factory=Counter)
    server_errors: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Answers(threading.Thread):
    """Notes when the prediction of each request was first read, and how many there are."""

    def __init__(self, kafka: Mapping[str, str], plan: Plan, decoder: ColumnDecoder) -> None:
        super().__init__(daemon=True)
        self._consumer = Consumer(
            {**kafka, "group.id": "campaign", "enable.auto.commit": False, "isolation.level": "read_committed", "fetch.wait.max.ms": 20}
        )
        self._consumer.assign([TopicPartition(plan.topics.predictions, p, 0) for p in range(plan.application.partitions)])
        self._decoder = decoder
        self.count: Counter[str] = Counter()
        self.first: dict[str, float] = {}
        self.finished = threading.Event()

    def run(self) -> None:
        """Read until told to end."""
        while not self.finished.is_set():
            messages = self._consumer.consume(1_000, 0.05)
            now = time.perf_counter()
            values = [message.value() for message in messages if message.error() is None]
            if values:
                for name in self._decoder.decode(values).batch.column("request_id").to_pylist():
                    self.count[name] += 1
                    self.first.setdefault(name, now)
        self._consumer.close()


class Sender:
    """Sends stretches of traffic.

    Parameters
    ----------
    gateway
        Base address; one good payment in ten goes this way.
    """

    def __init__(self, plan: Plan, kafka: Mapping[str, str], gateway: str, encode: Encode, grammar: Grammar, seed: int) -> None:
        self._plan, self._encode, self._grammar, self._seed = plan, encode, grammar, seed
        settings = {**kafka, "partitioner": "murmur2_random", "queue.buffering.max.messages": 500_000}
        self._producer = Producer({**settings, "linger.ms": 2})
        # The attacker is a client of its own, and each of its messages a batch: the broker refuses a batch whole, for one timestamp out of range or
        # for its size, and would take good messages with it.
        self._attacker = Producer({**settings, "linger.ms": 0, "batch.num.messages": 1, "message.max.bytes": 10_000_000})
        self._client = httpx.Client(base_url=gateway, timeout=30)
        self._pool = ThreadPoolExecutor(_HTTP_THREADS)
        self._lock = threading.Lock()
        self.sent = Sent()

    def introduce(self) -> None:
        """Publish the reference rows of the good accounts."""
        now_ms = time.time_ns() // 1_000_000
        for number, account in enumerate(GOOD_ACCOUNTS):
            row = {"account": account, "changed_at": now_ms, "age": 20 + number, "score": number / 7}
            self._producer.produce(self._plan.streams["customers"].topic, self._encode("customers", row), account.encode())
        self._producer.flush(30)

    def operate(self) -> None:
        """Ask the gateway for dead letters and a replay of none of them, once: what it loads for that is in memory before memory is measured."""
        self._client.get("/v1/dead-letters")
        self._client.post("/v1/dead-letters/replay", content=b'{"places": ["0:99999999"]}', headers={"content-type": "application/json"})

    def stretch(self, name: str, seconds: float, good_per_s: float, hostile: int = 0, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Send for so long: good messages at a rate, hostile ones evenly among them."""
        begun, total = time.perf_counter(), round(seconds * good_per_s)
        done = attacked = 0
        while done < total:
            due = min(total, int((time.perf_counter() - begun) * good_per_s) + 1)
            for number in range(done, due):
                self._good(name, begun + number / good_per_s)
            done = due
            while attacked < hostile * done / total:
                self._attack(self._grammar.next(time.time_ns() // 1_000_000))
                attacked += 1
            self._producer.poll(0)
            self._attacker.poll(0)
            meanwhile()
            time.sleep(max(0.0, min(0.005, begun + done / good_per_s - time.perf_counter())))

    def flush(self) -> None:
        """Wait until everything has been taken or refused."""
        if self._producer.flush(60) + self._attacker.flush(60):
            raise TimeoutError("the broker did not take every message within 60 s")
        self._pool.shutdown()
        self._client.close()

    def _good(self, stretch: str, due: float) -> None:
        number = len(self.sent.good)
        record = good_payment(number, time.time_ns() // 1_000_000, self._seed)
        identity = record["payment_id"]
        self.sent.good[identity], self.sent.due[identity], self.sent.stretch[identity] = record, due, stretch
        if number % 10 == 9:
            self._pool.submit(self._post, "payments", json.dumps(record).encode(), True)
            return
        value = json.dumps(record).encode() if number % 2 else self._encode("payments", record)
        self._producer.produce(self._plan.streams["payments"].topic, value, record["account"].encode(), on_delivery=self._taken)

    def _taken(self, error: KafkaError | None, message: KafkaMessage) -> None:
        if error is not None:
            self.sent.failures.append(f"a good payment was not taken by the broker: {error.str()}")

    def _refused(self, error: KafkaError | None, message: KafkaMessage) -> None:
        if error is not None:
            self.sent.refused[error.name()] += 1

    def _attack(self, message: Message) -> None:
        self.sent.hostile[message.kind] += 1
        if message.channel == "http":
            self._pool.submit(self._post, message.stream, message.value or b"", False)
            return
        topic = self._plan.topics.commands if message.stream == "commands" else self._plan.streams[message.stream].topic
        partition = -1 if message.partition is None else message.partition
        self._attacker.produce(topic, message.value, message.key, partition, timestamp=message.timestamp_ms or 0, on_delivery=self._refused)

    def _post(self, stream: str, body: bytes, good: bool) -> None:
        path = stream if stream.startswith("/") else f"/v1/events/{stream}"
        for _ in range(_TRIES):
            try:
                answer = self._client.post(path, content=body, headers={"content-type": "application/json"})
            except httpx.TransportError as error:
                # Without an answer an event is sent again, under the same id: it counts once.
                with self._lock:
                    self.sent.disconnects[f"{type(error).__name__}: {error}"[:100]] += 1
                continue
            with self._lock:
                self.sent.answers[answer.status_code] += 1
                if answer.status_code >= 500:
                    self.sent.server_errors.append(f"{path}: {answer.status_code} {answer.text[:200]}")
            if not good or answer.status_code == 202:
                return
        if good:
            with self._lock:
                self.sent.failures.append(f"a good payment was not taken in {_TRIES} tries: {body.decode()[:200]}")


def latencies_ms(sent: Sent, answers: Answers, stretch: str) -> NDArray[np.float64]:
    """Return how long the good messages of a stretch waited for their answers, shape (answered,)."""
    names = [name for name, of in sent.stretch.items() if of == stretch and name in answers.first]
    return np.array([(answers.first[name] - sent.due[name]) * 1e3 for name in names])
