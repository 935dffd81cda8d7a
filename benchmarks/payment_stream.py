"""The benchmark's input: payments from a fixed seed, the same bytes on every machine."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from confluent_kafka import Producer
from numpy.typing import NDArray

from tidemill.shared.avro.columns import ColumnEncoder
from tidemill.shared.avro.registry import SchemaRegistry

SCHEMAS = Path(__file__).with_name("schemas")
SUBJECT = "benchmark-payments-tidemill.benchmarks.Payment"
SEED = 7
ACCOUNTS, MERCHANTS = 10_000, 1_000
ZIPF = 1.1
SPACING_MS = 10
LATE_SHARE, LATE_BY_MS = 0.005, 60_000
ZERO_SHARE = 0.01  # what W1 filters away
# 2025-06-02T00:00:00Z: ingestion takes nothing from the future, so the whole run must lie in the past.
BEGIN_MS = 1_748_822_400_000
_CURRENCIES, _CURRENCY_SHARES = ("EUR", "USD", "GBP", "JPY"), (0.6, 0.2, 0.15, 0.05)
_COUNTRIES = ("DE", "FR", "ES", "US", "GB", "JP")
_CHUNK = 100_000


@dataclass(frozen=True, slots=True)
class Payments:
    """Payments as columns, in the order of their arrival; arrays of shape (n,).

    Attributes
    ----------
    account, merchant, currency, country
        Which one; 0 is the most frequent account or merchant.
    cents
        Amount in hundredths, so that sums can be checked exactly.
    event_time_ms
        A few lie up to a minute behind their place in the order.
    """

    account: NDArray[np.int64]
    merchant: NDArray[np.int64]
    cents: NDArray[np.int64]
    currency: NDArray[np.int64]
    country: NDArray[np.int64]
    event_time_ms: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.account)

    def first(self, n: int) -> "Payments":
        """Return the first n."""
        return Payments(*(getattr(self, name)[:n] for name in self.__slots__))

    def account_ids(self, begin: int, end: int) -> list[str]:
        """Return the accounts' names of rows [begin, end)."""
        return [f"acc{i:07d}" for i in self.account[begin:end].tolist()]

    def columns(self, begin: int, end: int) -> pa.RecordBatch:
        """Return rows [begin, end) as columns of the Avro schema."""
        rows = slice(begin, end)
        return pa.RecordBatch.from_pydict(
            {
                "payment_id": [f"p{i:011d}" for i in range(begin, end)],
                "account_id": self.account_ids(begin, end),
                "merchant_id": [f"m{i:06d}" for i in self.merchant[rows].tolist()],
                "amount": self.cents[rows] / 100,
                "currency": np.array(_CURRENCIES)[self.currency[rows]],
                "country": np.array(_COUNTRIES)[self.country[rows]],
                "event_time": pa.array(self.event_time_ms[rows]).cast(pa.timestamp("ms")),
            }
        )


def _zipf(random: np.random.Generator, kinds: int, n: int) -> NDArray[np.int64]:
    weights = np.arange(1, kinds + 1) ** -ZIPF
    return np.searchsorted(np.cumsum(weights / weights.sum()), random.random(n)).clip(0, kinds - 1)


def generate(n: int, seed: int = SEED, spacing_ms: float = SPACING_MS, begin_ms: int = BEGIN_MS) -> Payments:
    """Draw n payments.

    Parameters
    ----------
    spacing_ms
        Between one payment and the next, before some are moved back.
    """
    random = np.random.default_rng(seed)
    account, merchant = _zipf(random, ACCOUNTS, n), _zipf(random, MERCHANTS, n)
    cents = np.rint(np.exp(random.normal(3.2, 1.1, n)) * 100).astype(np.int64)
    cents[random.random(n) < ZERO_SHARE] = 0
    late = np.where(random.random(n) < LATE_SHARE, random.integers(1, LATE_BY_MS + 1, n), 0)
    time = begin_ms + np.floor(np.arange(n) * spacing_ms).astype(np.int64) - late
    currency = random.choice(len(_CURRENCIES), n, p=_CURRENCY_SHARES)
    return Payments(account, merchant, cents, currency, random.integers(0, len(_COUNTRIES), n), time)


@dataclass(frozen=True, slots=True)
class EncodedPayments:
    """Keys and values as they lie in Kafka, with their timestamps (the event times)."""

    keys: list[bytes]
    values: list[bytes]
    timestamps_ms: list[int]


def encode(payments: Payments, registry: SchemaRegistry) -> EncodedPayments:
    """Encode in Confluent's framing."""
    encoder = ColumnEncoder(registry, SUBJECT, (SCHEMAS / "payment.avsc").read_text(encoding="utf-8"))
    keys: list[bytes] = []
    values: list[bytes] = []
    for begin in range(0, len(payments), _CHUNK):
        end = min(begin + _CHUNK, len(payments))
        keys += [name.encode() for name in payments.account_ids(begin, end)]
        values += encoder.encode(payments.columns(begin, end))
    return EncodedPayments(keys, values, payments.event_time_ms.tolist())


def publish(bootstrap_servers: str, encoded: EncodedPayments, topics: dict[str, int], say: Callable[[str], None]) -> None:
    """Fill topics with the first so many payments each.

    Raises
    ------
    TimeoutError
        The broker did not take them all within two minutes.
    """
    producer = Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            # Without it a batch that is sent again stands behind the next one, and the log has another order than the oracle's.
            "enable.idempotence": True,
            "linger.ms": 20,
            "log_level": 2,
            "batch.size": 500_000,
            "batch.num.messages": 10_000,
            "queue.buffering.max.messages": 1_000_000,
            "partitioner": "murmur2_random",
        }
    )
    for topic, n in topics.items():
        for key, value, time in zip(encoded.keys[:n], encoded.values[:n], encoded.timestamps_ms[:n], strict=True):
            while True:
                try:
                    producer.produce(topic, value, key, timestamp=time)
                    break
                except BufferError:
                    producer.poll(0.05)
        if producer.flush(120):
            raise TimeoutError(f"{topic}: the broker did not take {n:,} payments within two minutes")
        say(f"{topic}: {n:,} payments, {sum(map(len, encoded.values[:n])) / n:.0f} bytes each")
