import json
from pathlib import Path

import numpy as np
import pytest

from tidemill.services.ingestion.domain.core import IngestionCore
from tidemill.services.ingestion.domain.raw import CleanRows, RawChunk
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.json_events import JsonDecoder
from tidemill.shared.log.partitioning import murmur2_partition

FIELDS = [
    {"name": "order_id", "type": ["null", "string"], "default": None},
    {"name": "shop", "type": ["null", "double"], "default": None},
    {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}], "default": None},
    {"name": "amount", "type": ["null", "double"], "default": None},
    {"name": "code", "type": ["null", "string"], "default": None},
]
APPLICATION = """
app: shop
owner: shop@example.org
partition_by: {partition_by}
partitions: {partitions}
streams:
  orders:
    topic: orders
    schema: order.avsc
    event_id: order_id
    event_time: at
    allowed_lateness: 1s
    derive: {{number: "CAST(code AS BIGINT)"}}
    expect:
      - {{name: positive, check: "amount > 0", otherwise: reject}}
      - {{name: small, check: "amount < 100", otherwise: flag}}
      - {{name: coded, check: "code IS NOT NULL", otherwise: flag}}
"""


def plan_of(folder: Path, partitions: int = 1, partition_by: str = "order_id") -> Plan:
    (folder / "order.avsc").write_text(json.dumps({"type": "record", "name": "Order", "namespace": "shop", "fields": FIELDS}))
    (folder / "app.yaml").write_text(APPLICATION.format(partitions=partitions, partition_by=partition_by))
    return load_plan(folder)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path)


def order(**changes: object) -> dict[str, object]:
    return {"order_id": "a", "shop": 1.0, "at": 1_000, "amount": 5.0, "code": "7", **changes}


def clean(core: IngestionCore, plan: Plan, *orders: dict[str, object]) -> CleanRows:
    n = len(orders)
    values = [json.dumps(item).encode() for item in orders]
    decoded = JsonDecoder(plan.streams["orders"].user_schema).decode(values)
    chunk = RawChunk(0, np.arange(n), 10_000 + np.arange(n), np.zeros(n, np.bool_), [None] * n, values, decoded)
    return core.clean("orders", chunk)


def reasons(rows: CleanRows) -> dict[int, str]:
    return {row: verdict.reason for row, verdict in rows.verdicts.items()}


def test_each_fault_has_its_reason_and_the_first_one_counts(plan: Plan) -> None:
    bad = [
        order(order_id=""),
        order(order_id=None),
        order(at=None),
        order(at=10**17),
        order(amount=None),
        order(amount=-1.0, at=None),
        order(),
    ]
    rows = clean(IngestionCore(plan, 0), plan, *bad)
    expected = ["missing_key", "missing_key", "missing_event_time", "impossible_event_time", "expectation", "missing_event_time"]
    assert reasons(rows) == dict(enumerate(expected))
    assert rows.refused.tolist() == [True] * 6 + [False]
    assert "amount > 0" in rows.verdicts[4].detail


def test_an_expression_that_fails_costs_one_record(plan: Plan) -> None:
    rows = clean(IngestionCore(plan, 0), plan, order(), order(code="seven"), order(code=None), order(code="8"))
    assert reasons(rows) == {1: "expression_failed"}
    assert rows.columns.column("number").to_pylist() == [7, None, None, 8]


def test_flagging_expectations_accept_and_count(plan: Plan) -> None:
    core = IngestionCore(plan, 0)
    rows = clean(core, plan, order(order_id="a"), order(order_id="b", amount=500.0), order(order_id="c", amount=500.0, code=None))
    assert not rows.verdicts
    core.add("orders", 0, rows)
    step = core.release({("orders", 0)})
    assert step.journal.entries["orders"].column("order_id").to_pylist() == ["a", "b", "c"]
    assert step.flagged == {("orders", "small"): 2, ("orders", "coded"): 1}


def test_a_nan_key_is_no_key(tmp_path: Path) -> None:
    import pyarrow as pa

    plan = plan_of(tmp_path, partition_by="shop")
    decoded = JsonDecoder(plan.streams["orders"].user_schema).decode([json.dumps(order()).encode()] * 2)
    shops = decoded.batch.set_column(1, "shop", pa.array([np.nan, 3.0], from_pandas=False))
    chunk = RawChunk(0, np.arange(2), np.arange(2), np.zeros(2, np.bool_), [None] * 2, [b""] * 2, type(decoded)(shops, decoded.rows, decoded.errors))
    assert reasons(IngestionCore(plan, 0).clean("orders", chunk)) == {0: "missing_key"}


def test_a_misplaced_key_is_refused_wherever_it_does_not_belong(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, partitions=3)
    orders = [order(order_id=f"order-{i}") for i in range(30)]
    homes = [murmur2_partition(f"order-{i}".encode(), 3) for i in range(30)]
    for partition in range(3):
        rows = clean(IngestionCore(plan, partition), plan, *orders)
        assert reasons(rows) == {i: "misplaced_key" for i, home in enumerate(homes) if home != partition}


def test_duplicates_within_a_batch_and_across_batches_and_late_events(plan: Plan) -> None:
    core = IngestionCore(plan, 0)
    core.add("orders", 0, clean(core, plan, order(order_id="a", at=9_000), order(order_id="a"), order(order_id="b", at=8_000)))
    first = core.release({("orders", 0)})
    core.add("orders", 0, clean(core, plan, order(order_id="b"), order(order_id="c", at=7_999), order(order_id="d", at=9_001)))
    second = core.release({("orders", 0)})
    assert first.duplicates["orders"].column("source_offset").to_pylist() == [1]
    assert second.duplicates["orders"].column("event_id").to_pylist() == ["b"]
    assert first.journal.entries["orders"].column("_late").to_pylist() == [False, False]
    assert second.journal.entries["orders"].column("_late").to_pylist() == [True, False]
    assert second.late["orders"].column("lateness_ms").to_pylist() == [1_001]
