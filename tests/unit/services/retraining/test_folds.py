"""Folds along time: nobody learns what it is judged on, nor what was not known yet."""

import numpy as np
import pyarrow as pa
import pytest

from tidemill.services.retraining.domain.examples import DAY_MS, Examples
from tidemill.services.retraining.domain.folds import Folds

HORIZON_MS, DAYS = DAY_MS // 2, 60


def rows(n: int = 4_000) -> Examples:
    random = np.random.default_rng(5)
    asked = np.sort(random.integers(0, DAYS * DAY_MS, n))
    features = pa.RecordBatch.from_pydict({"x": asked.astype(float)})
    return Examples(features, asked, asked + random.integers(0, DAY_MS, n), np.asarray(random.integers(0, 2, n), np.float64))


@pytest.mark.parametrize("window", [0, 10])
def test_each_fold_is_what_a_loop_over_its_rows_says(window: int) -> None:
    examples, end = rows(), DAYS * DAY_MS - HORIZON_MS
    folds = Folds.of(end, DAYS * DAY_MS, HORIZON_MS, 7 * DAY_MS, 3, 0)
    assert folds.spans == tuple((end - (k + 1) * 7 * DAY_MS, end - k * 7 * DAY_MS) for k in range(3))
    pairs = list(zip(examples.request_ms.tolist(), examples.label_ms.tolist(), strict=True))
    for fold, (begin, stop) in enumerate(folds.spans):
        learned = [
            (asked, known)
            for asked, known in pairs
            if known < begin and asked < begin - HORIZON_MS and (not window or asked >= begin - HORIZON_MS - window * DAY_MS)
        ]
        judged = [(asked, known) for asked, known in pairs if begin <= asked < stop and known < DAYS * DAY_MS]
        for expected, chosen in ((learned, folds.learning(examples, fold, window)), (judged, folds.validation(examples, fold))):
            assert expected and expected == list(zip(chosen.request_ms.tolist(), chosen.label_ms.tolist(), strict=True))


def test_a_short_history_has_fewer_folds_and_at_least_one() -> None:
    day = DAY_MS
    assert len(Folds.of(60 * day, 61 * day, day, 7 * day, 9, 0)) == 4  # the oldest learns from 31 of 60 days
    assert len(Folds.of(20 * day, 21 * day, day, 7 * day, 3, 0)) == 1
    assert len(Folds.of(3 * day, 4 * day, day, 7 * day, 3, 0)) == 1
