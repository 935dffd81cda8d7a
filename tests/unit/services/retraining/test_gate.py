"""The gate passes nothing that it cannot judge."""

import numpy as np
import pytest
from numpy.typing import NDArray

from services.retraining.domain.examples import DAY_MS
from services.retraining.domain.gate import Verdict, judge, keeps

N = 1_000
RANDOM = np.random.default_rng(5)
LABELS = (RANDOM.random(N) < 0.3).astype(np.float64)
GOOD = np.clip(0.3 + 0.4 * (LABELS - 0.3) + RANDOM.normal(0, 0.1, N), 0.01, 0.99)
DULL = np.full(N, 0.3)
TIMES = np.sort(RANDOM.integers(0, 20 * DAY_MS, N))


def verdict(labels: NDArray[np.float64] = LABELS, challenger: NDArray[np.float64] = GOOD, champion: NDArray[np.float64] = DULL) -> Verdict:
    return judge(labels, challenger, champion, TIMES, 0.05, 100)


def changed(values: NDArray[np.float64], value: float) -> NDArray[np.float64]:
    return np.where(np.arange(len(values)) == 17, value, values)


def test_a_better_candidate_passes() -> None:
    assert verdict().passed


@pytest.mark.parametrize("only", [0.0, 1.0])
def test_one_class_judges_nobody(only: float) -> None:
    found = verdict(np.full(N, only), np.full(N, only))
    assert not found.passed and "both classes" in found.reason


@pytest.mark.parametrize("value", [2.0, float("nan"), float("inf"), 0.5])
def test_a_label_of_another_kind_judges_nobody(value: float) -> None:
    found = verdict(changed(LABELS, value))
    assert not found.passed and "labels of 0 and 1" in found.reason


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_scores_that_are_none_judge_nobody(value: float) -> None:
    assert not verdict(challenger=changed(GOOD, value)).passed
    assert not verdict(champion=changed(DULL, value)).passed


def test_a_refit_that_went_wrong_does_not_serve() -> None:
    passed = verdict()
    assert keeps(passed, LABELS, GOOD, DULL, TIMES, 0.05).passed
    assert keeps(passed, LABELS, GOOD, GOOD, TIMES, 0.05).passed
    worse = keeps(passed, LABELS, 1.0 - GOOD, GOOD, TIMES, 0.05)
    assert not worse.passed and "refit" in worse.reason and worse.figures["refit_log_loss"] > passed.figures["log_loss"]
    assert not keeps(passed, LABELS, changed(GOOD, float("nan")), GOOD, TIMES, 0.05).passed
