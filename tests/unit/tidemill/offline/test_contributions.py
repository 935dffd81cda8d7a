"""The records that a trace names for a feature are those that the plain-Python oracle computes it from."""

import math
from pathlib import Path

import numpy as np
import pytest

from tests.archives import archive_journal
from tests.feature_oracle import FeatureOracle, Seen
from tests.property.test_feature_engine import PLAN, as_batch, random_schedule
from tidemill.offline.contributions import ArchivedRequest, Contributions
from tidemill.shared.lake.journal import ArchivedJournal
from tidemill.shared.lake.tables import Lake


def asking(request: Seen) -> ArchivedRequest:
    return ArchivedRequest(request.stream, 0, request.offset, request.now, dict(request.fields))


@pytest.mark.parametrize("seed", [3, 4])
def test_every_feature_is_made_of_the_records_that_the_oracle_takes(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    schedule = random_schedule(rng, 150)
    lake = Lake(str(tmp_path), PLAN.application.app)
    archive_journal(PLAN, lake, 0, as_batch(schedule))
    archived, oracle = ArchivedJournal(lake, PLAN), FeatureOracle(schedule)
    by_offset = {record.offset: record for record in schedule}
    checked = {"count": 0, "last": 0, "time_since_last": 0, "first": 0, "lag": 0}
    requests = [record for record in schedule if record.stream == "payments"]
    for row in rng.choice(len(requests), 12, replace=False).tolist():
        request = requests[row]
        contributions = Contributions(PLAN, archived, asking(request))
        for view in PLAN.views:
            for aggregate in view.aggregates:
                truth, made = oracle.answer(view, aggregate, request), contributions.of(aggregate.feature)
                assert made is not None
                place = (aggregate.feature, row, seed, truth, made)
                assert all(record.offset <= request.offset for record in made.newest), place
                if aggregate.kind == "count":
                    assert made.count == (0 if math.isnan(truth) else truth), place
                elif aggregate.kind in ("last", "first", "lag", "time_since_last"):
                    assert made.count == (0 if math.isnan(truth) else 1), place
                    if made.count:
                        record = by_offset[made.newest[0].offset]
                        value = oracle._value(view, record)
                        got = (request.now - oracle._time(view, record)) / 1000 if aggregate.kind == "time_since_last" else value
                        assert got == truth, place
                else:
                    assert made.count or math.isnan(truth) or truth == 0, place
                    continue
                checked[aggregate.kind] += 1
    assert min(checked.values()) > 10, checked
