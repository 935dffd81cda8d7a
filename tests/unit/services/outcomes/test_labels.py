"""Labels meet their requests whatever the id's type: both sides become text by one rule."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tidemill.services.ingestion.domain.cleaning import Cleaner
from tidemill.services.ingestion.domain.raw import RawChunk
from tidemill.services.outcomes.task import OutcomesTask
from tidemill.shared.application.journal import JournalBatch, JournalGroup
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import DecodedColumns
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.records import Records

APP = """
app: shop
owner: someone@example.org
partition_by: id
streams:
  orders: {topic: orders, schema: order.avsc, event_id: id, event_time: at}
  returns: {topic: returns, schema: return.avsc, event_id: id, event_time: at}
models:
  back: {ask: orders, features: [id], label: {stream: returns, join: id, value: bad, max_delay: 1h}, fallback: {default: 0.5}}
"""


@pytest.mark.parametrize(("kind", "values"), [("double", [5.0, 0.1, 1e21]), ("long", [5, -7, 2**60]), ("string", ["5", "a", "é"])])
def test_a_label_names_its_request_as_ingestion_does(tmp_path: Path, kind: str, values: list[object]) -> None:
    for name, extra in (("order", []), ("return", [{"name": "bad", "type": "double"}])):
        fields = [{"name": "id", "type": kind}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}, *extra]
        (tmp_path / f"{name}.avsc").write_text(json.dumps({"type": "record", "name": name, "fields": fields}))
    (tmp_path / "app.yaml").write_text(APP)
    plan = load_plan(tmp_path)
    n, stream = len(values), plan.streams["orders"]
    batch = pa.RecordBatch.from_pylist([{"id": value, "at": 1_000} for value in values], schema=stream.user_arrow)
    numbers = np.arange(n, dtype=np.int64)
    chunk = RawChunk(0, numbers, numbers, np.zeros(n, np.bool_), [b""] * n, [b""] * n, DecodedColumns(batch, numbers, ()))
    asked = Cleaner(stream, 0, 1).clean(chunk).columns.column("_event_id").to_pylist()
    returned = plan.streams["returns"]
    own = {"id": pa.array(values, returned.entry_arrow.field("id").type), "bad": pa.array([1.0] * n)}
    columns = [own.get(f.name, pa.array(["x" if f.type == pa.string() else 0] * n).cast(f.type)) for f in returned.entry_arrow]
    group = JournalGroup(numbers, pa.RecordBatch.from_arrays(columns, schema=returned.entry_arrow))
    journal = JournalBatch(0, numbers, numbers, np.full(n, returned.index, np.int16), [b""] * n, {"returns": group})
    labels = OutcomesTask(plan, MemorySchemaRegistry(), 0)._judged(journal, Records("journal", 0, numbers, numbers, [b""] * n, [b""] * n)).labels
    assert labels["back"][1].request_id == asked
