"""Journals archived before rows could be deleted, or before a column was derived, read like those of today."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from tidemill.shared.application.planning import load_plan
from tidemill.shared.lake.journal import ArchivedJournal
from tidemill.shared.lake.names import journal_table
from tidemill.shared.lake.tables import Lake

APP = """
app: shop
owner: someone@example.org
partition_by: id
streams:
  orders: {topic: orders, schema: order.avsc, event_id: id, event_time: at, derive: {price: "amount / pieces"}}
  customers: {topic: customers, schema: customer.avsc, kind: reference, key: id, event_time: at, max_age: 1d}
models:
  back: {ask: orders, features: [price], label: {stream: orders, join: id, value: "amount > 1", max_delay: 1h}, fallback: {default: 0.5}}
"""
_TIME = {"type": "long", "logicalType": "timestamp-millis"}


def test_rows_without_the_mark_are_no_deletions_and_a_derived_infinity_is_no_value(tmp_path: Path) -> None:
    doubles = [{"name": name, "type": ["null", "double"], "default": None} for name in ("amount", "pieces")]
    for name, extra in (("order", doubles), ("customer", doubles)):
        fields = [{"name": "id", "type": "string"}, {"name": "at", "type": _TIME}, *extra]
        (tmp_path / f"{name}.avsc").write_text(json.dumps({"type": "record", "name": name, "fields": fields}))
    (tmp_path / "app.yaml").write_text(APP)
    plan, lake = load_plan(tmp_path), Lake(str(tmp_path / "lake"), "shop")
    amounts, pieces = [1.0, 1.7e308, 0.0, None], [2.0, 1e-10, 0.0, 1.0]
    for first, (name, stream) in enumerate(plan.streams.items()):
        places = 2 * np.arange(4, dtype=np.int64) + first
        known = {"amount": amounts, "pieces": pieces, "id": list("abcd"), "_event_id": list("abcd"), "_late": [False] * 4}
        named = [field for field in stream.entry_arrow if field.name not in ("_deleted", "price")]
        arrays = [pa.array(known.get(field.name, [1_000] * 4)).cast(field.type) for field in named]
        names = ["_journal_partition", "_journal_offset", *(field.name for field in named)]
        batch = pa.RecordBatch.from_arrays([pa.array(np.zeros(4, np.int32)), pa.array(places), *arrays], names=names)
        lake.append(journal_table(name), batch, f"{name}-0", places)
    (read,) = ArchivedJournal(lake, plan).batches(0)
    assert read.groups["customers"].columns.column("_deleted").to_pylist() == [False] * 4
    assert read.groups["orders"].columns.column("price").to_pylist() == [0.5, None, None, None]
