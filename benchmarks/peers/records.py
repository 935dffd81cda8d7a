"""Payments in and results out for the Python peers: Confluent framing around Avro bodies, by fastavro as their documentation advises."""

import io
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro

Record = dict[str, Any]
_HEADER_BYTES = 5
_DOLLARS = {"EUR": 1.08, "USD": 1.0, "GBP": 1.27, "JPY": 0.0067}


def _schema(name: str) -> Any:
    """Times stay integers: a datetime object per event would cost the peers time that the workload does not ask for."""
    schema = json.loads((Path(os.environ["SCHEMAS"]) / f"{name}.avsc").read_text(encoding="utf-8"))
    for field in schema["fields"]:
        if isinstance(field["type"], dict):
            field["type"] = field["type"]["type"]
    return fastavro.parse_schema(schema)


_PAYMENT = _schema("payment")
_HEADER = b"\x00" + struct.pack(">I", int(os.environ["OUTPUT_SCHEMA_ID"]))


def decode(value: bytes) -> Record:
    """Read one payment."""
    body = io.BytesIO(value)
    body.seek(_HEADER_BYTES)
    return fastavro.schemaless_reader(body, _PAYMENT)  # type: ignore[return-value]  # fastavro has no types


def encoder(name: str) -> Callable[[Record], bytes]:
    """Return the function that writes records of a schema."""
    schema = _schema(name)

    def encode(record: Record) -> bytes:
        body = io.BytesIO()
        body.write(_HEADER)
        fastavro.schemaless_writer(body, schema, record)
        return body.getvalue()

    return encode


def enriched(payment: Record) -> Record:
    """W1: add the amount in dollars."""
    payment["amount_usd"] = payment["amount"] * _DOLLARS.get(payment["currency"], 1.0)
    return payment


def statistic(payment: Record, count: int, mean: float) -> Record:
    """W2: the account's payments so far."""
    identity = {name: payment[name] for name in ("payment_id", "account_id", "event_time")}
    return {**identity, "count": count, "mean": mean}
