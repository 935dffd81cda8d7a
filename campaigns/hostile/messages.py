"""What is sent: good records, and a grammar of hostile ones. The same seed gives the same messages."""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

GOOD_ACCOUNTS = tuple(f"g{i}" for i in range(60))
HOSTILE_ACCOUNTS = tuple(f"x{i}" for i in range(8))
Channel = Literal["kafka", "http"]
_TIMES = (-(2**63), -(2**60), -62_135_596_800_001, -1, 0, 1, 1_700_000_000, 253_402_300_799_999, 253_402_300_800_000, 2**53, 2**63 - 1)
_NUMBERS = (
    "1e400", "-1e400", "NaN", "Infinity", "1e308", "-1e308", "5e-324", "-0.0", "1" * 400, "0.1", "true", '"1"', "null", "[1]", "{}", "1E5", "0x1",
)  # fmt: skip
_TEXTS = ("", " ", "\u0000", "\ud800", "é" * 500, "w" * 100_000, "\u202e", "' OR 1=1 --", "{{7*7}}", "NA", "null", "\r\n", "\U0001f600")
_PATHS = (
    "/v1/events/nothing", "/v1/features/account", "/v1/features/account/%ff%fe", "/v1/features/nobody/x", "/v1/models/fraud/commands",
    "/v1/dead-letters/replay", "/../../etc/passwd", "/v1/events/payments/more",
)  # fmt: skip
_BODIES = (
    b"", b"{}", b"[" * 3_000, b'{"keys": [1, true, null]}', b'{"keys": ["x"]}', b'{"command": "dance", "reason": ""}', b"\xff" * 100,
    b'{"places": ["0:99999999"]}',
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Message:
    """One message to send.

    Attributes
    ----------
    stream
        Over HTTP a path instead, when it begins with a slash.
    value
        Kafka's value or HTTP's body; None: a null value.
    partition
        None: by the key.
    timestamp_ms
        None: now.
    """

    kind: str
    stream: str
    key: bytes | None
    value: bytes | None
    channel: Channel = "kafka"
    partition: int | None = None
    timestamp_ms: int | None = None


Encode = Callable[[str, Mapping[str, Any]], bytes]
"""Avro bytes of a record of a stream, in the wire format, under the application's own schema."""


def good_payment(number: int, now_ms: int, seed: int) -> dict[str, Any]:
    """Return payment `number` of the good traffic."""
    rng = random.Random(f"good {seed} {number}")
    return {
        "payment_id": f"p{number}",
        "account": rng.choice(GOOD_ACCOUNTS),
        "paid_at": now_ms - rng.randint(0, 500),
        "amount": round(rng.uniform(0.5, 900), 2),
        "items": rng.randint(1, 9),
        "online": rng.random() < 0.5,
        "memo": rng.choice((None, "gift", "rent")),
    }


class Grammar:
    """Hostile messages from a seed.

    Parameters
    ----------
    encode
        The application's own codec, for records whose bytes are right and whose content is not.
    foreign
        Framed records of other writers' schemas (fields of types the reader does not know, recursion, another record altogether).
    """

    def __init__(self, seed: int, encode: Encode, foreign: tuple[bytes, ...]) -> None:
        self._rng, self._encode, self._foreign = random.Random(f"hostile {seed}"), encode, foreign
        self._made = 0
        self._kinds: tuple[Callable[[int], Message], ...] = (
            self._json_number, self._json_text, self._json_shape, self._json_field, self._json_time, self._json_bytes, self._avro_content,
            self._avro_bytes, self._avro_foreign, self._junk, self._null, self._misplaced, self._kafka_time, self._size, self._duplicate,
            self._label, self._reference, self._http_event, self._http_other, self._command,
        )  # fmt: skip

    def next(self, now_ms: int) -> Message:
        """Return the next message."""
        self._made += 1
        return self._rng.choice(self._kinds)(now_ms)

    def _payment(self, now_ms: int, **changes: Any) -> dict[str, Any]:
        number = self._made if self._rng.random() < 0.9 else max(1, self._made - self._rng.randint(0, 50))
        return good_payment(number, now_ms, -1) | {"payment_id": f"h{number}", "account": self._rng.choice(HOSTILE_ACCOUNTS)} | changes

    def _sent(self, kind: str, value: bytes | None, stream: str = "payments", account: str | None = None, **how: Any) -> Message:
        key = (account or self._rng.choice(HOSTILE_ACCOUNTS)).encode()
        return Message(kind, stream, key, value, **how)

    def _text(self, event: Mapping[str, Any]) -> bytes:
        return json.dumps(event).encode()

    def _json_number(self, now_ms: int) -> Message:
        event = self._payment(now_ms)
        field = self._rng.choice(("amount", "items", "paid_at", "online", "account", "payment_id"))
        marked = json.dumps({**event, field: "@@"}).replace('"@@"', self._rng.choice(_NUMBERS))
        return self._sent("json number", marked.encode(), account=event["account"])

    def _json_text(self, now_ms: int) -> Message:
        event = self._payment(now_ms)
        field = self._rng.choice(("memo", "payment_id", "account", "amount", "paid_at"))
        changed = {**event, field: self._rng.choice(_TEXTS)}
        # An account of the attacker's own making, never one of the good.
        return self._sent("json text", self._text(changed), account=event["account"])

    def _json_shape(self, now_ms: int) -> Message:
        inner = self._text(self._payment(now_ms))
        nested = b'{"a":' * 3_000 + b"1" + b"}" * 3_000
        shapes = (b"[]", b"{}", b"null", b"1", b'"x"', b"[" + inner + b"]", b"{" * 5_000, nested, inner + inner, inner[: len(inner) // 2])
        return self._sent("json shape", self._rng.choice(shapes))

    def _json_field(self, now_ms: int) -> Message:
        event = self._payment(now_ms)
        field = self._rng.choice(list(event))
        changed: dict[str, Any] = self._rng.choice(
            (
                {name: value for name, value in event.items() if name != field},
                {**event, field: None},
                {**event, "colour": "red"},
                {**event, field: [event[field]]},
                {**event, field: {"value": event[field]}},
                {name.upper(): value for name, value in event.items()},
            )
        )
        return self._sent("json field", self._text(changed), account=event["account"])

    def _json_time(self, now_ms: int) -> Message:
        ahead = now_ms + self._rng.choice((299_000, 301_000, 3_600_000, -3_599_000, -3_700_000))
        texts = ("9999-12-31T23:59:59", "0001-01-01", "2024-02-30", "20240115", "2024-01-15T00:00:00+99:00", "now", "")
        event = self._payment(now_ms, paid_at=self._rng.choice((*_TIMES, ahead, *texts)))
        return self._sent("json time", self._text(event), account=event["account"])

    def _json_bytes(self, now_ms: int) -> Message:
        text = self._text(self._payment(now_ms))
        at = self._rng.randrange(len(text))
        broken = text[:at] + b"\xff\xfe" + text[at:], text[:at] + text[at + 1 :]
        return self._sent("json bytes", self._rng.choice((b"\xef\xbb\xbf" + text, b"  " + text, text.decode().encode("utf-16"), *broken)))

    def _avro_content(self, now_ms: int) -> Message:
        rng = self._rng
        changes: dict[str, Any] = rng.choice(
            (
                {"amount": rng.choice((float("nan"), float("inf"), float("-inf"), 1e308, 5e-324, -0.0, -1.0))},
                {"items": rng.choice((0, -(2**31), 2**31 - 1))},
                {"paid_at": rng.choice(_TIMES)},
                {"paid_at": now_ms + rng.choice((301_000, 3_600_000, -3_700_000))},
                {"memo": rng.choice(("", "\u0000", "m" * 50_000))},
                {"payment_id": rng.choice(("", "i" * 50_000))},
            )
        )
        event = self._payment(now_ms, **changes)
        return self._sent("avro content", self._encode("payments", event), account=event["account"])

    def _avro_bytes(self, now_ms: int) -> Message:
        rng, value = self._rng, bytearray(self._encode("payments", self._payment(now_ms)))
        how = rng.randrange(4)
        if how == 0:
            del value[rng.randrange(5, len(value)) :]
        elif how == 1:
            value += rng.randbytes(rng.randint(1, 20))
        elif how == 2:
            at = rng.randrange(5, len(value))
            # An empty memo stays one: what a flipped byte makes of the account must not be one of the good.
            value[5:] = b"\xff" * 9 + bytes(value[at:])
        else:
            value[1:5] = rng.randbytes(4)
        return self._sent("avro bytes", bytes(value))

    def _avro_foreign(self, now_ms: int) -> Message:
        return self._sent("avro foreign", self._rng.choice(self._foreign))

    def _junk(self, now_ms: int) -> Message:
        rng = self._rng
        noise = rng.randbytes(rng.randint(4, 300))
        return self._sent("junk", rng.choice((b"", b"\x00", b"\x00\x00\x00\x00", noise, b"\x00" + noise)))

    def _null(self, now_ms: int) -> Message:
        return self._sent("null", None, self._rng.choice(("payments", "disputes", "customers")))

    def _misplaced(self, now_ms: int) -> Message:
        event = self._payment(now_ms)
        key = self._rng.choice((None, b"", b"elsewhere", event["account"].encode()))
        return Message("misplaced", "payments", key, self._text(event), partition=self._rng.randrange(2))

    def _kafka_time(self, now_ms: int) -> Message:
        event = self._payment(now_ms)
        when = self._rng.choice((1, now_ms - 86_400_000, now_ms + 3_600_000, 253_402_300_800_000, 2**62))
        return self._sent("kafka time", self._text(event), account=event["account"], timestamp_ms=when)

    def _size(self, now_ms: int) -> Message:
        event = self._payment(now_ms, memo="s" * self._rng.choice((200_000, 490_000, 700_000, 900_000)))
        value = self._text(event) if self._rng.random() < 0.5 else self._encode("payments", event)
        # One in twenty, or the network is what is measured.
        return self._sent("size", value, account=event["account"]) if self._rng.random() < 0.05 else self._junk(now_ms)

    def _duplicate(self, now_ms: int) -> Message:
        event = self._payment(now_ms, payment_id="again")
        return self._sent("duplicate", self._text(event), account=event["account"])

    def _label(self, now_ms: int) -> Message:
        event: dict[str, Any] = {
            "dispute_id": f"d{self._made}",
            "payment_id": self._rng.choice(("again", f"h{max(1, self._made - 5)}", "nobody")),
            "account": self._rng.choice(HOSTILE_ACCOUNTS),
            "disputed_at": now_ms,
            "fraud": self._rng.choice((2.0, -1.0, 0.5, 1e308, float("nan"), float("inf"), 1.0, 0.0)),
        }
        value = self._encode("disputes", event) if self._rng.random() < 0.5 else self._text(event)
        return self._sent("label", value, "disputes", event["account"])

    def _reference(self, now_ms: int) -> Message:
        rng = self._rng
        event: dict[str, Any] = {
            "account": rng.choice(HOSTILE_ACCOUNTS),
            "changed_at": rng.choice((now_ms, *_TIMES)),
            "age": rng.choice((None, -1, 2**31 - 1)),
            "score": rng.choice((None, 1e308, float("nan"))),
        }
        value = self._encode("customers", event) if rng.random() < 0.5 else self._text(event)
        return self._sent("reference", value, "customers", event["account"])

    def _http_event(self, now_ms: int) -> Message:
        kinds = (self._json_number, self._json_text, self._json_shape, self._json_field, self._json_time, self._json_bytes, self._junk)
        made = self._rng.choice(kinds)(now_ms)
        return Message("http event", made.stream, made.key, made.value, "http")

    def _http_other(self, now_ms: int) -> Message:
        return Message("http other", self._rng.choice(_PATHS), b"", self._rng.choice(_BODIES), "http")

    def _command(self, now_ms: int) -> Message:
        return Message("command", "commands", b"fraud", self._rng.choice((b"", b"{}", b"\x00\x00\x00\x00\x01", self._rng.randbytes(40))))
