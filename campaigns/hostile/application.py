"""The application that is attacked: payments that ask, disputes that answer, accounts as reference data."""

import json
from pathlib import Path
from typing import Any

APP = """
app: {app}
owner: campaigns@example.org
partition_by: account
partitions: {partitions}
streams:
  payments:
    topic: {app}-payments
    schema: payment.avsc
    event_id: payment_id
    event_time: paid_at
    allowed_lateness: 1h
    derive: {{each: "amount / items"}}
    expect:
      - {{name: no refund, check: "amount >= 0", otherwise: reject}}
  disputes: {{topic: {app}-disputes, schema: dispute.avsc, event_id: dispute_id, event_time: disputed_at}}
  customers: {{topic: {app}-customers, schema: customer.avsc, key: account, event_time: changed_at, kind: reference, max_age: 1d}}
entities:
  account: {{from: {{payments: account}}}}
views:
  spending: {{entity: account, source: payments, value: amount, aggregate: [count, sum, mean, std, min, max], windows: [10m, 1h, all]}}
  habit: {{entity: account, source: payments, value: each, aggregate: [last, time_since_last, {{decayed_mean: {{half_life: 10m}}}}]}}
models:
  fraud:
    ask: payments
    features: [amount, items, online, customers.*, spending.*, habit.*]
    label: {{stream: disputes, join: payment_id, value: fraud, max_delay: 1h}}
    fallback: {{default: 0.1}}
{learning}
"""
_NEVER_TRAINED = "    retraining: {bootstrap_labels: 1000000}"
_STAMP = {"type": "long", "logicalType": "timestamp-millis"}
PAYMENT: list[tuple[str, Any]] = [
    ("payment_id", "string"), ("account", "string"), ("paid_at", _STAMP), ("amount", "double"), ("items", "int"), ("online", "boolean"),
    ("memo", ["null", "string"]),
]  # fmt: skip
DISPUTE: list[tuple[str, Any]] = [
    ("dispute_id", "string"), ("payment_id", "string"), ("account", "string"), ("disputed_at", _STAMP), ("fraud", "double"),
]  # fmt: skip
CUSTOMER: list[tuple[str, Any]] = [("account", "string"), ("changed_at", _STAMP), ("age", ["null", "int"]), ("score", ["null", "double"])]
STREAMS = {"payments": ("Payment", PAYMENT), "disputes": ("Dispute", DISPUTE), "customers": ("Customer", CUSTOMER)}


def record_schema(name: str, fields: list[tuple[str, Any]]) -> str:
    """Return an Avro record schema; nullable fields are null by default."""
    made = [{"name": field, "type": kind, **({"default": None} if isinstance(kind, list) else {})} for field, kind in fields]
    return json.dumps({"type": "record", "name": name, "namespace": "campaign", "fields": made})


def write_application(folder: Path, app: str, partitions: int = 2, learning: str = _NEVER_TRAINED) -> Path:
    """Write the application under a name of its own and return its folder; `learning` is the part of the model about training, in YAML."""
    folder.mkdir(parents=True)
    (folder / "app.yaml").write_text(APP.format(app=app, partitions=partitions, learning=learning), encoding="utf-8")
    for name, fields in STREAMS.values():
        (folder / f"{name.lower()}.avsc").write_text(record_schema(name, fields), encoding="utf-8")
    return folder
