"""The gate passes nothing that it cannot judge."""

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tidemill.services.retraining.domain.examples import DAY_MS, Examples
from tidemill.services.retraining.domain.gate import judge
from tidemill.services.retraining.domain.refit_checks import check_refit, missing_inputs
from tidemill.services.retraining.domain.verdict import GateVerdict
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.kinds.regression import Regression

N = 1_000
RANDOM = np.random.default_rng(5)
GOOD = np.clip(RANDOM.beta(0.5, 1.2, N), 0.01, 0.99)
LABELS = (RANDOM.random(N) < GOOD).astype(np.float64)
DULL = np.full(N, 0.3)
TIMES = np.sort(RANDOM.integers(0, 20 * DAY_MS, N))


def verdict(labels: NDArray[np.float64] = LABELS, challenger: NDArray[np.float64] = GOOD, champion: NDArray[np.float64] = DULL) -> GateVerdict:
    return judge(Binary(), labels, challenger, champion, TIMES, 0.05, 100)


def changed(values: NDArray[np.float64], value: float) -> NDArray[np.float64]:
    return np.where(np.arange(len(values)) == 17, value, values)


def test_a_better_candidate_passes() -> None:
    assert verdict().passed


def test_data_of_hours_are_judged_in_shorter_blocks() -> None:
    hours = TIMES // 160
    assert not judge(Binary(), LABELS, GOOD, DULL, hours, 0.05, 100).passed
    assert judge(Binary(), LABELS, GOOD, DULL, hours, 0.05, 100, block_ms=600_000).passed


@pytest.mark.parametrize("only", [0.0, 1.0])
def test_one_class_judges_nobody(only: float) -> None:
    judgement = verdict(np.full(N, only), np.full(N, only))
    assert not judgement.passed and "enough of each class" in judgement.reason


def test_too_few_of_a_class_judge_nobody_and_it_is_said_which() -> None:
    few = np.where(np.arange(N) % 200 == 0, 1.0, 0.0)
    verdict = judge(Binary(), few, GOOD, DULL, TIMES, 0.05, 100, 10)
    assert not verdict.passed and "5 positives of 1000 rows, 10 are needed" in verdict.reason
    assert "5 negatives" in judge(Binary(), 1 - few, GOOD, DULL, TIMES, 0.05, 100, 10).reason


def test_probabilities_that_mean_less_than_the_champions_do_not_serve() -> None:
    """It ranks far better, and its log loss is lower; but it says 45 % where it is 30 %."""
    generator = np.random.default_rng(8)
    n = 6_000
    chance = generator.beta(0.8, 1.9, n)
    labels, times = (generator.random(n) < chance).astype(np.float64), np.sort(generator.integers(0, 20 * DAY_MS, n))
    verdict = judge(Binary(), labels, np.clip(chance + 0.15, 0.01, 0.99), np.full(n, labels.mean()), times, 0.05, 100, 10)
    assert not verdict.passed and "calibration" in verdict.reason and verdict.figures["calibration_difference_low"] > 0.05
    assert judge(Binary(), labels, np.clip(chance, 0.01, 0.99), np.full(n, labels.mean()), times, 0.05, 100, 10).passed


@pytest.mark.parametrize("value", [2.0, float("nan"), float("inf"), 0.5])
def test_a_label_of_another_kind_judges_nobody(value: float) -> None:
    judgement = verdict(changed(LABELS, value))
    assert not judgement.passed and "labels of 0 or 1" in judgement.reason


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_scores_that_are_none_judge_nobody(value: float) -> None:
    assert not verdict(challenger=changed(GOOD, value)).passed
    assert not verdict(champion=changed(DULL, value)).passed


class Says:
    """A model that answers one column; where its inputs are missing it answers what it is told to."""

    def __init__(self, name: str, otherwise: float = 0.3) -> None:
        self._name, self._otherwise = name, otherwise

    def score(self, batch: pa.RecordBatch) -> NDArray[np.float64]:
        values = batch.column(self._name).to_numpy(zero_copy_only=False)
        return np.where(np.isnan(values), self._otherwise, values)


def rows(**columns: NDArray[np.float64]) -> Examples:
    return Examples(pa.RecordBatch.from_pydict({name: pa.array(values) for name, values in columns.items()}), TIMES, TIMES + 1, LABELS)


def test_a_refit_that_went_wrong_does_not_serve() -> None:
    known = rows(good=GOOD, dull=DULL, turned=1.0 - GOOD, nothing=changed(GOOD, float("inf")), high=np.clip(GOOD + 0.15, 0.01, 0.99))

    def check(mine: str, other: str) -> GateVerdict:
        return check_refit(Binary(), known, Says(mine), Says(other), "the champion")

    assert check("good", "dull").passed and check("good", "good").passed
    worse = check("turned", "good")
    assert not worse.passed and "than the champion" in worse.reason and worse.figures["refit_loss"] > worse.figures["refit_other_loss"]
    assert not check("nothing", "good").passed
    assert "calibration" in check("high", "dull").reason, "better than what was there, but it says 15 points too much"
    assert not check_refit(Binary(), known, Says("good", float("nan")), Says("good"), "the champion").passed


def test_a_model_answers_whatever_is_missing() -> None:
    known = rows(good=GOOD, dull=DULL)
    assert missing_inputs(Binary(), Says("good"), known.features) == ""
    assert "found none without good, all inputs" in missing_inputs(Binary(), Says("good", float("nan")), known.features)


def test_first_models_of_other_kinds_are_judged_by_their_own_loss() -> None:
    generator = np.random.default_rng(9)
    value = generator.normal(size=N)
    better = judge(Regression(), value, value + 0.1, np.zeros(N), TIMES, 0.05, 100)
    assert better.passed and better.figures["loss"] == pytest.approx(0.01)
    assert not judge(Regression(), value, value * np.nan, np.zeros(N), TIMES, 0.05, 100).passed
    kind = Multiclass(("a", "b", "c"))
    labels = generator.integers(0, 3, N).astype(np.float64)
    sure, even = np.full((N, 3), 0.1), np.full((N, 3), 1 / 3)
    sure[np.arange(N), labels.astype(int)] = 0.8
    assert judge(kind, labels, sure, even, TIMES, 0.05, 100, 10).passed
    assert not judge(kind, labels, even, sure, TIMES, 0.05, 100, 10).passed
    assert "2 c of" in judge(kind, np.where((labels == 2) & (np.cumsum(labels == 2) > 2), 0.0, labels), sure, even, TIMES, 0.05, 100, 10).reason
