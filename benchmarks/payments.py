"""A payments application and its events, made from a seed: what the measurements of this folder run on."""

import json
from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shared.application.plan import Plan
from shared.avro.columns import ColumnEncoder
from shared.avro.registry import SchemaRegistry
from shared.models.artifacts import Artifact
from shared.models.export import lightgbm_to_onnx
from shared.models.signature import Column, Signature

BASE_MS = 1_795_305_600_000
ACCOUNTS, MERCHANTS = 10_000, 1_000
TREES = 100
_TIME = {"type": "long", "logicalType": "timestamp-millis"}
PAYMENT = {
    "type": "record",
    "name": "Payment",
    "namespace": "bench",
    "fields": [
        {"name": "payment_id", "type": "string"},
        {"name": "account_id", "type": "string"},
        {"name": "merchant_id", "type": "string"},
        {"name": "amount", "type": "double"},
        {"name": "currency", "type": "string"},
        {"name": "country", "type": "string"},
        {"name": "event_time", "type": _TIME},
    ],
}
CHARGEBACK = {
    "type": "record",
    "name": "Chargeback",
    "namespace": "bench",
    "fields": [
        {"name": "payment_id", "type": "string"},
        {"name": "account_id", "type": "string"},
        {"name": "fraud", "type": "double"},
        {"name": "reported", "type": _TIME},
    ],
}
APPLICATION = """\
app: {app}
owner: bench@example.org
partition_by: account_id
partitions: 1
streams:
  payments:
    topic: {app}-payments
    schema: payment.avsc
    event_id: payment_id
    event_time: event_time
    allowed_lateness: 2m
    derive: {{large: "amount > 100"}}
    expect:
      - {{name: an amount, check: "amount >= 0", otherwise: reject}}
      - {{name: a currency, check: "currency IS NOT NULL", otherwise: reject}}
  chargebacks: {{topic: {app}-chargebacks, schema: chargeback.avsc, event_id: payment_id, event_time: reported, allowed_lateness: 2m}}
entities:
  account: {{from: {{payments: account_id}}}}
views:
  spent: {{entity: account, source: payments, value: amount, aggregate: [count, sum, mean, max], windows: [5m, 1h, 24h]}}
  previous: {{entity: account, source: payments, aggregate: [time_since_last]}}
models:
  fraud:
    kind: binary
    ask: payments
    features: [amount, "spent.*", "previous.*"]
    label: {{stream: chargebacks, join: payment_id, value: "fraud > 0.5", max_delay: 30d, on_timeout: negative}}
    fallback: {{default: 0.01}}
"""
MODEL = "fraud"


@dataclass(frozen=True, slots=True)
class Payments:
    """Encoded events in order of publication."""

    keys: list[bytes]
    values: list[bytes]
    times_ms: NDArray[np.int64]


def write_application(folder: Path, app: str) -> Path:
    """Write the application's folder; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "app.yaml").write_text(APPLICATION.format(app=app), encoding="utf-8")
    (folder / "payment.avsc").write_text(json.dumps(PAYMENT), encoding="utf-8")
    (folder / "chargeback.avsc").write_text(json.dumps(CHARGEBACK), encoding="utf-8")
    return folder


def payments(registry: SchemaRegistry, plan: Plan, n: int, seed: int = 7, first: int = 0, now_ms: int | None = None) -> Payments:
    """Make n events: accounts and merchants Zipf 1.1, 10 ms apart, 0.5 % out of order by up to 60 s.

    Parameters
    ----------
    first
        Number of the first event, so that runs against one application do not repeat ids.
    now_ms
        Event time of all (live runs); by default a fixed day.
    """
    rng = np.random.default_rng(seed)

    def zipf(k: int) -> NDArray[np.int64]:
        p = 1.0 / np.arange(1, k + 1) ** 1.1
        return np.searchsorted(np.cumsum(p / p.sum()), rng.random(n)).clip(0, k - 1)

    accounts, merchants = [f"acc{i:07d}" for i in zipf(ACCOUNTS).tolist()], [f"m{i:06d}" for i in zipf(MERCHANTS).tolist()]
    amount = np.round(np.exp(rng.normal(3.2, 1.1, n)), 2)
    times = BASE_MS + np.cumsum(rng.exponential(10.0, n)).astype(np.int64)
    times -= np.where(rng.random(n) < 0.005, rng.integers(1, 60_000, n), 0)
    if now_ms is not None:
        times = np.full(n, now_ms, np.int64)
    stream = plan.streams["payments"]
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array([f"p{i:011d}" for i in range(first, first + n)]),
            pa.array(accounts),
            pa.array(merchants),
            pa.array(amount),
            pa.array(rng.choice(["EUR", "USD", "GBP", "JPY"], n, p=[0.6, 0.2, 0.15, 0.05])),
            pa.array(rng.choice(["DE", "FR", "ES", "US", "GB", "JP"], n)),
            pa.array(times).cast(pa.timestamp("ms")),
        ],
        schema=stream.user_arrow,
    )
    encoder = ColumnEncoder(registry, f"{stream.topic}-bench.Payment", stream.user_schema)
    return Payments([account.encode() for account in accounts], encoder.encode(batch), times)


def fraud_model(plan: Plan) -> Artifact:
    """Train a LightGBM of 100 trees on noise with the application's features: scoring costs the same whatever it learned."""
    features = plan.models[MODEL].features
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(2_000, len(features))).astype(np.float32)
    label = (matrix[:, 0] + matrix[:, 1] ** 2 + rng.normal(size=len(matrix)) > 1).astype(np.int64)
    parameters = {"objective": "binary", "verbose": -1, "num_threads": 1, "deterministic": True, "force_row_wise": True, "seed": 1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(matrix, label), TREES)
    rows = tuple(tuple(float(x) for x in row) for row in matrix[:8])
    scores = tuple(float(score) for score in np.asarray(booster.predict(matrix[:8])))
    columns = tuple(Column(name=name, type="double") for name in features)
    signature = Signature(model=MODEL, version="bench", family="lightgbm", columns=columns, threshold=0.5, parity_rows=rows, parity_scores=scores)
    return Artifact(signature, lightgbm_to_onnx(booster, len(features)))


def promotion(plan: Plan, address: str) -> dict[str, object]:
    """Lifecycle event that puts the model into service."""
    return {
        "sequence": 0, "parent": -1, "decision_id": "bench", "model": MODEL, "event": "promoted", "version": "bench", "journal_partition": 0,
        "journal_offset": 0, "journal_time": 0, "artifact_sha256": address, "artifact_uri": "", "share": 1.0, "threshold": 0.5, "figures": {},
        "details": {}, "reason": "",
    }  # fmt: skip
