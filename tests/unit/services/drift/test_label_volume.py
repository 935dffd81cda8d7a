"""So many further labels ask for a training, whatever the batching."""

import numpy as np
import pytest

from tests.unit.services.drift.test_selective_labels import N, outcomes
from tidemill.services.drift.domain.findings import Finding
from tidemill.services.drift.domain.watch import ModelWatch
from tidemill.services.drift.domain.watch_settings import WatchSettings
from tidemill.shared.kinds.binary import Binary

EVERY = 90


def watch(labels: int | None, version: str | None = "v1") -> ModelWatch:
    made = ModelWatch(WatchSettings("m", "ask", (), Binary(), bootstrap_labels=10**9, labels=labels))
    made.version = version
    return made


@pytest.mark.parametrize("cuts", [(), (1, 89, 90, 91, 300), tuple(range(7, N, 7))])
def test_each_further_count_is_told_at_the_label_that_completes_it(cuts: tuple[int, ...]) -> None:
    rows, _, _, weight = outcomes()
    one = watch(EVERY)
    told: list[Finding] = []
    for begin, end in zip((0, *cuts), (*cuts, N), strict=True):
        chosen = np.zeros(N, np.bool_)
        chosen[begin:end] = True
        told += [finding for finding in one.outcomes(rows, chosen) if finding.kind == "label_volume"]
    assert [finding.statistic for finding in told] == list(range(EVERY, one.labels + 1, EVERY)) and len(told) > 2
    assert {finding.severity for finding in told} == {"info"}
    labelled = np.flatnonzero(weight > 0)
    assert one.labels == len(labelled)
    assert [finding.at.offset for finding in told] == [labelled[int(finding.statistic) - 1] for finding in told]


@pytest.mark.parametrize(("labels", "version"), [(None, "v1"), (EVERY, None)])
def test_nobody_is_told_where_it_is_not_declared_or_nothing_serves(labels: int | None, version: str | None) -> None:
    rows, *_ = outcomes()
    assert not [one for one in watch(labels, version).outcomes(rows, np.ones(N, np.bool_)) if one.kind == "label_volume"]
