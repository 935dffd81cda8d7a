"""What happened to models, as the small public topics tell it: lifecycle events, decisions, incidents and trials.

A record is kept whole, as JSON text, beside its model, its journal time and its place in the topic: a field more in a schema changes no table.
"""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.shared.lake.tables import Lake

HISTORY = pa.schema([("log_offset", pa.int64()), ("model", pa.string()), ("journal_time", pa.timestamp("ms")), ("record", pa.string())])


def history_row(offset: int, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record as the row that is kept of it; instants stay milliseconds."""
    return {
        "log_offset": offset, "model": record["model"], "journal_time": record["journal_time"], "record": json.dumps(record, sort_keys=True),
    }  # fmt: skip


def history(lake: Lake, table: str, model: str) -> list[dict[str, Any]]:
    """Return the archived records of a model in the order of their topic; none from an archive older than the table."""
    if not lake.exists(table):
        return []
    rows = lake.dataset(table).to_table(columns=["log_offset", "record"], filter=pc.field("model") == model)
    return [json.loads(row["record"]) for row in rows.sort_by("log_offset").to_pylist()]
