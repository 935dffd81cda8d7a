"""What an expression cannot do with one record, and whole numbers beyond a double's digits, end no stage: the real ones, in memory."""

import json
from pathlib import Path
from typing import Any

from tidemill.testing.application_run import ApplicationRun

TIME = {"type": "long", "logicalType": "timestamp-millis"}
MONEY = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 18}
NOON = 1_767_268_800_000
APPLICATION = """app: shop
owner: me@example.org
partition_by: customer
streams:
  orders: {topic: orders, schema: order.avsc, event_id: id, event_time: at}
  returns: {topic: returns, schema: return.avsc, event_id: id, event_time: at}
entities:
  customer: {from: {orders: customer}}
views:
  squares: {entity: customer, source: orders, value: "price * price", aggregate: [count, sum], windows: [1h]}
  large: {entity: customer, source: orders, where: "price * price > 1", value: points, aggregate: [max], windows: [1h]}
models:
  returned:
    ask: orders
    features: [points, squares.*, large.*]
    label: {stream: returns, join: order_id, value: "CAST(returned AS INT)", max_delay: 1d}
    fallback: {default: 0.1}
"""


def application(folder: Path) -> Path:
    order = [("id", "string"), ("customer", "string"), ("price", MONEY), ("points", "long"), ("at", TIME)]
    returned = [("id", "string"), ("order_id", "string"), ("customer", "string"), ("returned", "string"), ("at", TIME)]
    for name, fields in (("order", order), ("return", returned)):
        schema = {"type": "record", "name": name.capitalize(), "fields": [{"name": field, "type": kind} for field, kind in fields]}
        (folder / f"{name}.avsc").write_text(json.dumps(schema))
    (folder / "app.yaml").write_text(APPLICATION)
    return folder


def order(number: int, price: str, points: int) -> dict[str, Any]:
    return {"id": f"o{number}", "customer": "c", "price": price, "points": points, "at": NOON}


def test_a_record_that_an_expression_or_a_double_cannot_hold_is_answered_like_any_other(tmp_path: Path) -> None:
    with ApplicationRun(application(tmp_path), start="2026-01-01T12:00") as run:
        for event in (order(1, "2", 5), order(2, "99999999999999999999.5", 2**63 - 1), order(3, "3", -(2**53) - 1)):
            run.publish("orders", event)
        for number, text in ((1, "1"), (2, "maybe"), (3, "0")):
            run.publish("returns", {"id": f"r{number}", "order_id": f"o{number}", "customer": "c", "returned": text, "at": NOON})
        results = run.run()
    vectors = results.vectors
    assert [vector["points"] for vector in vectors] == [5.0, float(2**63 - 1), float(-(2**53) - 1)]
    assert [vector["squares__count_1h"] for vector in vectors] == [1.0, 2.0, 3.0]
    assert [vector["squares__sum_1h"] for vector in vectors] == [4.0, 4.0, 13.0]
    assert [vector["large__max_1h"] for vector in vectors] == [5.0, 5.0, 5.0]
    assert [prediction["request_id"] for prediction in results.predictions] == ["o1", "o2", "o3"]
    assert {outcome["request_id"]: outcome["label"] for outcome in results.outcomes} == {"o1": 1.0, "o3": 0.0}
    (letter,) = results.rejected
    assert letter["reason"] == "invalid_label"
    assert letter["detail"].endswith("found a record for which CAST(returned AS INT) has no value; the record is in the journal, without it")
