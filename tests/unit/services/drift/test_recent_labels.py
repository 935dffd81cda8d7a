"""Bounds on metrics of the last labels: a correction changes the label of its request, and does not make an old request a new one."""

import numpy as np
import pyarrow as pa
import pytest

from tidemill.services.drift.domain.recent_labels import MetricBound, RecentLabels
from tidemill.services.drift.domain.rows import MergedCoordinates, outcome_rows
from tidemill.shared.avro.arrow_types import arrow_schema
from tidemill.shared.avro.messages import message_schema
from tidemill.shared.kinds.binary import Binary

SCHEMA = arrow_schema(message_schema("outcome"))


@pytest.mark.parametrize("batch", [1, 7, 1_000])
def test_the_last_requests_stay_the_last_whatever_is_corrected(batch: int) -> None:
    """Against a plain loop: 300 requests in order, 120 corrections to the positive class of requests long ago and of late."""
    random, kept = np.random.default_rng(2), 50
    events: list[tuple[int, int, float]] = []
    for i in range(300):
        events.append((i, 0, float(random.random() < 0.5)))
        events += [(int(random.integers(0, i + 1)), 1, 1.0)] if i % 5 < 2 else []
    known: dict[int, float] = {}
    for request, revision, label in events:
        if revision == 0 or request in list(known)[-kept:]:
            known[request] = label
    wanted = list(known.items())[-kept:]
    common: dict[str, object] = {field.name: None if field.nullable else 0 for field in SCHEMA}
    common |= {"request_id": "r", "model": "m", "status": "labelled", "model_version": "v1", "variant": "champion", "score": 0.5}
    recent = RecentLabels((MetricBound("auc", 0.5, is_floor=True),), kept)
    for begin in range(0, len(events), batch):
        part = events[begin : begin + batch]
        rows = [common | {"request_journal_offset": one, "revision": revision, "label": label} for one, revision, label in part]
        places = np.arange(begin, begin + len(part))
        read = outcome_rows(MergedCoordinates(places, places, np.zeros(len(part), np.int64), places), pa.RecordBatch.from_pylist(rows, schema=SCHEMA))
        recent.absorb(Binary(), read, np.ones(len(part), np.bool_))
    assert [(int(key.split("/")[1]), row[0]) for key, row in recent.rows.items()] == wanted
