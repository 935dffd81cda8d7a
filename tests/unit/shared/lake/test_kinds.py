"""The lake takes what other kinds serve into tables that were made before there were any, and training sets know which labels are labels."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.kind_events import SPECIES, START, THREE_CLASSES, flowers, species_model
from tidemill.shared.avro.arrow_types import arrow_schema
from tidemill.shared.avro.messages import message_schema
from tidemill.shared.lake.names import OUTCOMES, PREDICTIONS, VECTORS
from tidemill.shared.lake.tables import Lake
from tidemill.shared.lake.training_set import training_set
from tidemill.testing import ApplicationRun
from tidemill.testing.application_run import Results


@pytest.fixture(scope="module")
def results() -> Results:
    asked, named = flowers(30)
    with ApplicationRun(THREE_CLASSES, START.isoformat()) as run:
        run.deploy("species", species_model())
        for at, stream, event in sorted(
            [(one["seen_at"], "flowers", one) for one in asked] + [(one["named_at"], "namings", one) for one in named], key=lambda one: one[0]
        ):
            run.clock.set(at.isoformat())
            run.publish(stream, event)
        run.clock.set((named[-1]["named_at"] + timedelta(days=9)).isoformat())
        return run.run()


def test_a_table_of_before_there_were_kinds_takes_scores_by_class(tmp_path: Path, results: Results) -> None:
    lake, schema = Lake(str(tmp_path), "flowers"), arrow_schema(message_schema("prediction"))
    batch = pa.RecordBatch.from_pylist(results.predictions, schema=schema)
    before = [
        name for name in schema.names if name not in ("scores", "predicted_label", "lower", "upper", "expected_error", "expected_squared_error")
    ]
    lake.append(PREDICTIONS, pa.Table.from_batches([batch.slice(0, 10).select(before)]), "p:0", range(10))
    lake.append(PREDICTIONS, pa.Table.from_batches([batch.slice(10)]), "p:0", range(10, 30))
    held = lake.dataset(PREDICTIONS).to_table().to_pylist()
    rows = {row["request_id"]: (row["scores"], row["predicted_label"], row["lower"]) for row in held}
    for i, row in enumerate(results.predictions):
        assert rows[row["request_id"]] == ((None, None, None) if i < 10 else (row["scores"], row["predicted_label"], None))


def test_a_training_set_has_the_classes_that_were_known_and_nothing_else(tmp_path: Path, results: Results) -> None:
    with ApplicationRun(THREE_CLASSES) as run:
        plan = run.plan
    lake = Lake(str(tmp_path), "flowers")
    outcomes: list[dict[str, Any]] = [dict(row) for row in results.outcomes]
    odd = next(row for row in outcomes if row["status"] == "labelled" and row["revision"] == 0)
    odd["label"] = 3.0
    for table, rows, schema, places in (
        (VECTORS, results.vectors, plan.vector_arrow, "v:0"), (OUTCOMES, outcomes, arrow_schema(message_schema("outcome")), "o:0"),
    ):  # fmt: skip
        lake.append(table, pa.Table.from_pylist(rows, schema=schema), places, range(len(rows)))
    made = training_set(lake, plan.models["species"], 1 << 50)
    last: dict[int, float | None] = {}
    for row in sorted(outcomes, key=lambda one: one["revision"]):
        if row["label"] is not None:
            last[row["request_journal_offset"]] = row["label"]
    expected = {offset: label for offset, label in last.items() if label in range(len(SPECIES))}
    assert dict(zip(made.rows["_journal_offset"].to_pylist(), made.rows["_label"].to_pylist(), strict=True)) == expected
    assert made.version["rows_of_invalid_labels"] == str(len(last) - len(expected))
