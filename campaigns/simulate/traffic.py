"""Records that users publish: good ones, and every kind of bad one."""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

ORDERS, VERDICTS, CUSTOMERS = "shop-orders", "shop-verdicts", "shop-customers"
GOOD_CUSTOMERS, HOSTILE_CUSTOMERS = tuple(f"c{i}" for i in range(10)), tuple(f"x{i}" for i in range(3))
_FAR_MS = 253_402_300_000_000
_CHANNELS = ("web", "shop", "phone")


@dataclass(frozen=True, slots=True)
class RawRecord:
    """One record to publish.

    Attributes
    ----------
    partition
        None: by the key.
    request
        Order id, when a prediction has to come of it.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    request: str | None = None


Make = Callable[[int, int, random.Random], RawRecord]


def record(kind: str, number: int, now_ms: int) -> RawRecord:
    """Make record `number` of a kind; the same for the same arguments."""
    return KINDS[kind](number, now_ms, random.Random(f"{kind}-{number}"))


def order_event(number: int, now_ms: int, rng: random.Random, customers: tuple[str, ...] = GOOD_CUSTOMERS, **changes: object) -> dict[str, object]:
    """Return an order as its publisher would write it."""
    return {
        "order_id": f"o{number}",
        "customer": rng.choice(customers),
        "amount": round(rng.uniform(0.5, 500), 2),
        "items": rng.randint(1, 9),
        "channel": rng.choice((*_CHANNELS, None)),
        "ordered_at": now_ms - rng.randint(0, 900),
        **changes,
    }


def _order(number: int, now_ms: int, rng: random.Random) -> RawRecord:
    event = order_event(number, now_ms, rng)
    return _json(ORDERS, event, request=str(event["order_id"]))


def customer_of(number: int) -> str:
    """Return the customer of order `number`."""
    return str(order_event(number, 0, random.Random(f"order-{number}"))["customer"])


def _verdict(number: int, now_ms: int, rng: random.Random) -> RawRecord:
    # About an order of late, or one that is still to come.
    about = max(0, number + rng.randint(-6, 2))
    bad = float(rng.random() < 0.3)
    event = {"verdict_id": f"v{number}", "order_id": f"o{about}", "customer": customer_of(about), "bad": bad, "judged_at": now_ms}
    return _json(VERDICTS, event)


def _customer(number: int, now_ms: int, rng: random.Random) -> RawRecord:
    event = {"customer": rng.choice(GOOD_CUSTOMERS), "age": rng.choice((None, 18, 40, 77)), "country": rng.choice(("DE", "US")), "changed_at": now_ms}
    return _json(CUSTOMERS, event)


def _json(topic: str, event: Mapping[str, object], request: str | None = None, partition: int | None = None) -> RawRecord:
    return RawRecord(topic, str(event["customer"]).encode(), json.dumps(event).encode(), partition, request)


def _bad_id(rng: random.Random) -> str:
    return f"bad{rng.getrandbits(40)}"


def _bad_order(**changes: object) -> Make:
    """Make an order of a hostile customer with something wrong in it."""

    def make(number: int, now_ms: int, rng: random.Random) -> RawRecord:
        return _json(ORDERS, order_event(number, now_ms, rng, HOSTILE_CUSTOMERS, **{"order_id": _bad_id(rng), **changes}))

    return make


def _raw(value: bytes | None, topic: str = ORDERS) -> Make:
    """Make a record of bytes that mean nothing."""
    return lambda number, now_ms, rng: RawRecord(topic, rng.choice(HOSTILE_CUSTOMERS).encode(), value)


def _random_bytes(number: int, now_ms: int, rng: random.Random) -> RawRecord:
    # Each names another schema id.
    return RawRecord(ORDERS, rng.choice(HOSTILE_CUSTOMERS).encode(), b"\x00" + rng.randbytes(rng.randint(0, 60)))


def _duplicate(number: int, now_ms: int, rng: random.Random) -> RawRecord:
    """Return the bytes of an order once more, as a publisher sends it that got no answer."""
    again = rng.randint(max(0, number - 8), max(0, number - 1))
    return _json(ORDERS, order_event(again, now_ms, random.Random(f"order-{again}")), request=f"o{again}")


def _late(number: int, now_ms: int, rng: random.Random) -> RawRecord:
    return _json(ORDERS, order_event(number, now_ms, rng, HOSTILE_CUSTOMERS, order_id=_bad_id(rng), ordered_at=now_ms - 60_000))


def _ahead(number: int, now_ms: int, rng: random.Random) -> RawRecord:
    return _json(ORDERS, order_event(number, now_ms, rng, HOSTILE_CUSTOMERS, order_id=_bad_id(rng), ordered_at=now_ms + 3_600_000))


def _misplaced(number: int, now_ms: int, rng: random.Random) -> RawRecord:
    """Return an order in a partition that its key may not belong to."""
    event = order_event(number, now_ms, rng, HOSTILE_CUSTOMERS, order_id=_bad_id(rng))
    return _json(ORDERS, event, partition=rng.randint(0, 1))


def _cut(number: int, now_ms: int, rng: random.Random) -> RawRecord:
    whole = json.dumps(order_event(number, now_ms, rng, HOSTILE_CUSTOMERS, order_id=_bad_id(rng))).encode()
    return RawRecord(ORDERS, b"x0", whole[: rng.randint(1, len(whole) - 1)])


def _exponent(number: int, now_ms: int, rng: random.Random) -> RawRecord:
    text = json.dumps(order_event(number, now_ms, rng, HOSTILE_CUSTOMERS, order_id=_bad_id(rng), amount=12345.5))
    return RawRecord(ORDERS, b"x1", text.replace("12345.5", "1e400").encode())


def _odd_verdict(number: int, now_ms: int, rng: random.Random) -> RawRecord:
    bad = rng.choice((2.0, -1.0, 1e308, 0.5))
    event = {"verdict_id": f"vx{number}", "order_id": _bad_id(rng), "customer": rng.choice(HOSTILE_CUSTOMERS), "bad": bad, "judged_at": now_ms}
    return _json(VERDICTS, event)


def _poison_customer(stage: str) -> Make:
    """Make a row of the reference table about a hostile customer, which every partition reads."""

    def make(number: int, now_ms: int, rng: random.Random) -> RawRecord:
        return _json(CUSTOMERS, {"customer": rng.choice(HOSTILE_CUSTOMERS), "age": 40, "country": f"poison-{stage}", "changed_at": now_ms})

    return make


def _poison_verdict(stage: str) -> Make:
    """Make a label of a hostile customer's order that never came."""

    def make(number: int, now_ms: int, rng: random.Random) -> RawRecord:
        about = {"order_id": _bad_id(rng), "customer": rng.choice(HOSTILE_CUSTOMERS)}
        return _json(VERDICTS, {"verdict_id": f"poison-{stage}-{number}", **about, "bad": 1.0, "judged_at": now_ms})

    return make


GOOD: Mapping[str, Make] = {"order": _order, "verdict": _verdict, "customer": _customer}
HOSTILE: Mapping[str, Make] = {
    "empty object": _raw(b"{}"),
    "no bytes": _raw(b""),
    "garbage": _raw(b"\xff\xfe\xfd"),
    "random bytes": _random_bytes,
    "unknown schema": _raw(b"\x00\x00\x00\x27\x0fabc"),
    "array": _raw(b"[1, 2]"),
    "deep": _raw(b'{"order_id":' * 500),
    "null": _raw(None),
    "null verdict": _raw(None, VERDICTS),
    "cut": _cut,
    "wrong type": _bad_order(amount="many"),
    "boolean": _bad_order(amount=True),
    "fraction for an integer": _bad_order(items=1.5),
    "out of range": _bad_order(items=2**40),
    "no items": _bad_order(items=0),
    "negative": _bad_order(amount=-1.0),
    "huge": _bad_order(amount=1e308),
    "tiny": _bad_order(amount=5e-324),
    "too large a number": _exponent,
    "not a number": _bad_order(amount=float("nan")),
    "infinite": _bad_order(amount=float("inf")),
    "no id": _bad_order(order_id=""),
    "long text": _bad_order(channel="w" * 20_000),
    "far future": _bad_order(ordered_at=_FAR_MS),
    "an hour ahead": _ahead,
    "seconds": _bad_order(ordered_at=1_700_000_000),
    "before Christ": _bad_order(ordered_at=-(2**60)),
    "unknown field": _bad_order(colour="red"),
    "late": _late,
    "misplaced": _misplaced,
    "duplicate": _duplicate,
    "odd verdict": _odd_verdict,
}
POISONED_STAGES = ("ingestion", "features", "scoring", "outcomes", "drift", "archive", "explanations")
POISON: Mapping[str, Make] = {
    **{f"poison customer for {stage}": _poison_customer(stage) for stage in ("ingestion", "features", "archive")},
    **{f"poison verdict for {stage}": _poison_verdict(stage) for stage in ("ingestion", "features", "outcomes", "archive")},
    **{f"poison for {stage}": _bad_order(channel=f"poison-{stage}") for stage in POISONED_STAGES},
}
POISONS = tuple(POISON)
"""Kinds; the last one is for a stage that not every run has."""
# What a flood of the stream that may be paused is made of.
JUNK = "junk verdict"
KINDS = {**GOOD, **HOSTILE, **POISON, JUNK: _raw(b"{}", VERDICTS)}
