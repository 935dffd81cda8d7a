"""NaN and infinities are decided at the door, whatever they come in."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tidemill.services.ingestion.domain.core import IngestionCore
from tidemill.services.ingestion.domain.ingestion_step import IngestionStep
from tidemill.services.ingestion.domain.raw import CleanRows, RawChunk
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import DecodedColumns

APPLICATION = """
app: shop
owner: shop@example.org
partition_by: id
streams:
  orders:
    topic: orders
    schema: order.avsc
    event_id: id
    event_time: at
    derive: {{unit_price: "amount / pieces", double: "amount * 2"}}
    expect: [{{name: not negative, check: "amount IS NULL OR amount > -5"}}{expect}]
{more}
"""


def plan_of(folder: Path, more: str = "", expect: str = "", nullable: bool = True) -> Plan:
    amount = {"name": "amount", "type": ["null", "double"], "default": None} if nullable else {"name": "amount", "type": "double"}
    time = {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}
    fields = [{"name": "id", "type": "string"}, time, amount, {"name": "pieces", "type": ["null", "float"], "default": None}]
    (folder / "order.avsc").write_text(json.dumps({"type": "record", "name": "Order", "fields": fields}))
    (folder / "app.yaml").write_text(APPLICATION.format(more=more, expect=expect))
    return load_plan(folder)


def cleaned(plan: Plan, amounts: Sequence[float | None], pieces: Sequence[float | None]) -> tuple[CleanRows, IngestionStep]:
    n, core = len(amounts), IngestionCore(plan, 0)
    columns = {"id": [str(i) for i in range(n)], "at": [1_000] * n, "amount": amounts, "pieces": pieces}
    arrays = [
        pa.array(columns[f.name], f.type if f.name != "at" else pa.int64(), from_pandas=False).cast(f.type) for f in plan.streams["orders"].user_arrow
    ]
    batch = pa.RecordBatch.from_arrays(arrays, schema=plan.streams["orders"].user_arrow)
    rows = np.arange(n, dtype=np.int64)
    chunk = RawChunk(0, rows, np.full(n, 1_000), np.zeros(n, np.bool_), [None] * n, [b""] * n, DecodedColumns(batch, rows, ()))
    clean = core.clean("orders", chunk)
    core.add("orders", 0, clean)
    return clean, core.release({("orders", 0)})


AMOUNTS = [1.0, float("nan"), float("inf"), float("-inf"), None, 1.7e308, -0.0, 5e-324]
PIECES = [1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.0, float("inf")]


def test_by_default_they_become_null_are_counted_and_no_expression_sees_them(tmp_path: Path) -> None:
    clean, step = cleaned(plan_of(tmp_path), AMOUNTS, PIECES)
    assert not clean.verdicts
    entries = step.journal.entries["orders"]
    assert entries.column("amount").to_pylist() == [1.0, None, None, None, None, 1.7e308, -0.0, 5e-324]
    assert entries.column("pieces").to_pylist() == [1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.0, None]
    # 1.7e308 / 0.5 and * 2 overflow, -0.0 / 0.0 is no number: results are held to the same rule.
    assert entries.column("unit_price").to_pylist() == [1.0, None, None, None, None, None, None, None]
    assert entries.column("double").to_pylist() == [2.0, None, None, None, None, None, -0.0, 1e-323]
    assert step.flagged["orders", "non_finite"] == 6


def test_nan_is_greater_than_no_number(tmp_path: Path) -> None:
    clean, _ = cleaned(plan_of(tmp_path, expect=', {name: positive, check: "amount > 0"}'), AMOUNTS, [1.0] * 8)
    assert {row: verdict.reason for row, verdict in clean.verdicts.items()} == dict.fromkeys([1, 2, 3, 4, 6], "expectation")


def test_rejected_by_declaration_each_is_a_dead_letter_that_names_the_column(tmp_path: Path) -> None:
    clean, step = cleaned(plan_of(tmp_path, "    non_finite: reject"), AMOUNTS, PIECES)
    assert {row: verdict.reason for row, verdict in clean.verdicts.items()} == dict.fromkeys([1, 2, 3, 5, 6, 7], "non_finite")
    assert "amount" in clean.verdicts[1].detail and "pieces" in clean.verdicts[7].detail and "unit_price" in clean.verdicts[6].detail
    assert step.journal.entries["orders"].column("id").to_pylist() == ["0", "4"]


def test_a_column_that_may_not_be_null_costs_the_record(tmp_path: Path) -> None:
    clean, step = cleaned(plan_of(tmp_path, nullable=False), [1.0, float("nan"), 2.0], [1.0, 1.0, 1.0])
    assert {row: verdict.reason for row, verdict in clean.verdicts.items()} == {1: "non_finite"}
    assert step.journal.entries["orders"].column("amount").to_pylist() == [1.0, 2.0]


@pytest.mark.parametrize("size", [1, 7])
def test_whether_one_is_odd_does_not_depend_on_its_neighbours(tmp_path: Path, size: int) -> None:
    plan, huge = plan_of(tmp_path), [1.7e308] * 7
    whole, _ = cleaned(plan, huge, [1.0] * 7)
    parts = [cleaned(plan, huge[i : i + size], [1.0] * size)[0].columns.column("amount").to_pylist() for i in range(0, 7, size)]
    assert whole.columns.column("amount").to_pylist() == [value for part in parts for value in part] == huge
