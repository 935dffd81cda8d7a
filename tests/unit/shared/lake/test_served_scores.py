"""What was answered stands beside the rows that are learned from, each at its own row."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tidemill.shared.avro.arrow_types import arrow_schema
from tidemill.shared.avro.messages import message_schema
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.lake.names import OUTCOMES
from tidemill.shared.lake.served_scores import served_scores
from tidemill.shared.lake.tables import Lake

CLASSES = ("a", "b")


def outcome(offset: int, score: float, time_ms: int, **changes: Any) -> dict[str, Any]:
    named = {"request_id": f"r{offset}", "model": "m", "model_version": "v", "variant": "champion", "status": "labelled", "predicted_label": "b"}
    placed = {"journal_partition": 0, "journal_offset": 0, "request_journal_offset": offset, "deployment_sequence": 1, "revision": 0}
    times = {"journal_time": time_ms, "request_journal_time": 0, "event_time": 0, "label_event_time": 0, "delay_ms": 1}
    said = {"score": score, "predicted": 1, "scores": [("a", 1 - score), ("b", score)], "label": 1.0, "label_class": "b"}
    return {**named, **placed, **times, **said, **changes}


@pytest.mark.parametrize("kind", [Binary(), Multiclass(CLASSES)])
def test_each_request_has_the_scores_it_was_answered_with(tmp_path: Path, kind: Kind) -> None:
    rows = [
        outcome(5, 0.5, 10),
        outcome(3, 0.3, 20),
        outcome(5, 0.5, 30, revision=1, status="corrected"),
        outcome(7, 0.7, 40, variant="default", model_version="default"),
        outcome(8, 0.8, 50, model="other"),
        outcome(9, 0.9, 90),
    ]
    lake = Lake(str(tmp_path), "app")
    lake.append(OUTCOMES, pa.Table.from_pylist(rows, schema=arrow_schema(message_schema("outcome"))), "o:0", range(len(rows)))
    places = pa.table({"_journal_partition": pa.array([0] * 6, pa.int32()), "_journal_offset": pa.array([3, 4, 5, 7, 8, 9], pa.int64())})
    served = served_scores(lake, "m", kind, places, 90, lake.version(OUTCOMES))
    expected = np.array([0.3, np.nan, 0.5, np.nan, np.nan, np.nan])
    if kind.classes:
        expected = np.stack([1 - expected, expected], axis=1)
    assert served.shape == expected.shape
    np.testing.assert_array_equal(served, expected)
