"""The gate passes nothing that it cannot judge."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tidemill.services.retraining.domain.examples import DAY_MS
from tidemill.services.retraining.domain.gate import Verdict, judge, keeps

N = 1_000
RANDOM = np.random.default_rng(5)
GOOD = np.clip(RANDOM.beta(0.5, 1.2, N), 0.01, 0.99)
LABELS = (RANDOM.random(N) < GOOD).astype(np.float64)
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


def test_too_few_of_a_class_judge_nobody_and_it_is_said_which() -> None:
    few = np.where(np.arange(N) % 200 == 0, 1.0, 0.0)
    found = judge(few, GOOD, DULL, TIMES, 0.05, 100, 10)
    assert not found.passed and "10 rows of each, found 5 positives" in found.reason and found.figures["gate_positives"] == 5
    assert "found 5 negatives" in judge(1 - few, GOOD, DULL, TIMES, 0.05, 100, 10).reason


def test_probabilities_that_mean_less_than_the_champions_do_not_serve() -> None:
    """It ranks far better, and its log loss is lower; but it says 45 % where it is 30 %."""
    generator = np.random.default_rng(8)
    n = 6_000
    chance = generator.beta(0.8, 1.9, n)
    labels, times = (generator.random(n) < chance).astype(np.float64), np.sort(generator.integers(0, 20 * DAY_MS, n))
    found = judge(labels, np.clip(chance + 0.15, 0.01, 0.99), np.full(n, labels.mean()), times, 0.05, 100, 10)
    assert not found.passed and "calibration" in found.reason and found.figures["calibration_difference_low"] > 0.05
    assert judge(labels, np.clip(chance, 0.01, 0.99), np.full(n, labels.mean()), times, 0.05, 100, 10).passed


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
