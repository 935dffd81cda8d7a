"""Beside payments: what the inquiry into a chargeback finds. Its causes are learned from the labels, and one is new towards the end."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from tidemill.replay.feed import StreamTable

CAUSES = ("mistake", "theft", "testing")
"""In the order in which they are learned: nobody tests cards before half of the stream."""
_STREAMS = """
  reports: {topic: payments-reports, schema: schemas/report.avsc, event_id: payment_id, event_time: reported_at}
  findings: {topic: payments-findings, schema: schemas/finding.avsc, event_id: payment_id, event_time: found_at}
"""
_MODEL = """
  cause:
    kind: multiclass
    classes: learned
    ask: reports
    features: [magnitude, country]
    label: {stream: findings, join: payment_id, value: cause, max_delay: 2d}
    retraining: {bootstrap_labels: 200, cool_down: 1d, schedule: 60d}
    training: {trials: 1, families: [random_forest], windows_days: [0], holdout_days: 2, min_rows: 50, min_positives: 10}
    gate: {min_rows: 20}
"""
_HOUR_MS = 3_600_000


def add_causes(application: Path) -> None:
    """Add the streams and the model to a copy of the payments application."""
    stamp = {"type": "long", "logicalType": "timestamp-millis"}
    keys = {"payment_id": "string", "account_id": "string"}
    reports, findings = {**keys, "magnitude": "double", "country": "string", "reported_at": stamp}, {**keys, "cause": "string", "found_at": stamp}
    for name, fields in {"report": reports, "finding": findings}.items():
        columns = [{"name": column, "type": kind} for column, kind in fields.items()]
        (application / "schemas" / f"{name}.avsc").write_text(json.dumps({"type": "record", "name": name.title(), "fields": columns}))
    text = (application / "app.yaml").read_text()
    (application / "app.yaml").write_text(text.replace("\nentities:", f"{_STREAMS}entities:") + _MODEL)


def causes(made: Mapping[str, StreamTable], seed: int = 3) -> dict[str, StreamTable]:
    """Return a report of each chargeback, and some hours later what was found: large ones are thefts, half of the late ones tests of tiny amounts."""
    generator = np.random.default_rng(seed)
    payments, chargebacks = made["payments"].columns, made["chargebacks"]
    place = dict(zip(payments["payment_id"].to_pylist(), range(len(payments)), strict=True))
    paid = payments.take(pa.array([place[name] for name in chargebacks.columns["payment_id"].to_pylist()]))
    tested = (np.arange(len(paid)) >= len(paid) // 2) & (generator.random(len(paid)) < 0.5)
    magnitude = np.where(tested, generator.normal(-1.0, 0.2, len(paid)), np.log10(paid["amount"].to_numpy()))
    cause = np.where(tested, "testing", np.where(magnitude > 2, "theft", "mistake")).astype(object)
    cause[generator.random(len(cause)) < 0.05] = "mistake"
    at = chargebacks.available_ms
    found = at + generator.integers(1, 12, len(at)) * _HOUR_MS
    order = np.argsort(found, kind="stable")
    keys = {name: chargebacks.columns[name] for name in ("payment_id", "account_id")}
    stamps = pa.array(at).cast(pa.timestamp("ms"))
    reports = pa.table({**keys, "magnitude": magnitude, "country": paid["country"], "reported_at": stamps})
    told = pa.table({**keys, "cause": pa.array(cause.tolist()), "found_at": pa.array(found).cast(pa.timestamp("ms"))})
    return {"reports": StreamTable(reports, at), "findings": StreamTable(told.take(pa.array(order)), found[order])}
