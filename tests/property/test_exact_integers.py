"""Whole numbers at the edges of 32 and 64 bits through ingestion, journal and features. Oracle: Python's own integers, which have no edge."""

import json
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

from tidemill.testing.application_run import ApplicationRun

NOON = 1_767_268_800_000
EDGES = [0, 1, -1, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 3_037_000_499, -3_037_000_500, 2**53 + 1, 2**62, 2**63 - 1, -(2**63) + 1, -(2**63)]
APPLICATION = """app: shop
owner: me@example.org
partition_by: customer
streams:
  orders:
    topic: orders
    schema: order.avsc
    event_id: customer
    event_time: at
    derive: {plus: "a + b", exact: "a + b = c AND a - b = d AND a - b + b = a"}
entities:
  customer: {from: {orders: customer}}
views:
  squares: {entity: customer, source: orders, value: "a * b", aggregate: [max], windows: [1h]}
  above: {entity: customer, source: orders, where: "a * b > 5", aggregate: [count], windows: [1h]}
models:
  returned:
    ask: orders
    features: [plus, exact, squares.*, above.*]
    label: {stream: orders, join: customer, value: "CAST(a > 0 AS INT)", max_delay: 1d}
    fallback: {default: 0.1}
"""


def holds(number: int) -> bool:
    return -(2**63) <= number < 2**63


def orders() -> list[dict[str, Any]]:
    draw = Random(15)
    drawn = [tuple(draw.choice((-1, 1)) * draw.getrandbits(draw.choice((31, 32, 62, 63))) for _ in range(2)) for _ in range(20)]
    pairs = [*draw.sample([*product(EDGES, EDGES)], 40), *drawn]
    return [
        {"customer": f"c{i}", "a": a, "b": b, "c": a + b if holds(a + b) else 0, "d": a - b if holds(a - b) else 0, "at": NOON}
        for i, (a, b) in enumerate(pairs)
    ]


def test_whole_numbers_are_pythons_or_the_record_fails(tmp_path: Path) -> None:
    fields: list[tuple[str, Any]] = [
        ("customer", "string"),
        *((name, "long") for name in "abcd"),
        ("at", {"type": "long", "logicalType": "timestamp-millis"}),
    ]
    schema = {"type": "record", "name": "Order", "fields": [{"name": name, "type": kind} for name, kind in fields]}
    (tmp_path / "order.avsc").write_text(json.dumps(schema))
    (tmp_path / "app.yaml").write_text(APPLICATION)
    published = orders()
    with ApplicationRun(tmp_path, start="2026-01-01T12:00") as run:
        for event in published:
            run.publish("orders", event)
        results = run.run()
    good = [event for event in published if holds(event["a"] + event["b"]) and holds(event["a"] - event["b"])]
    refused = {json.loads(letter["value"])["customer"]: letter["reason"] for letter in results.rejected}
    assert 10 < len(good) < len(published) - 10
    assert refused == {event["customer"]: "expression_failed" for event in published if event not in good}
    for event, vector in zip(good, results.vectors, strict=True):
        times = event["a"] * event["b"]
        assert (vector["plus"], vector["exact"]) == (float(event["a"] + event["b"]), 1.0), event
        assert vector["squares__max_1h"] == (float(times) if holds(times) else None), event
        assert vector["above__count_1h"] == (1.0 if holds(times) and times > 5 else 0.0), event
