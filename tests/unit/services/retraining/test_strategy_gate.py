"""Recipes are admitted by what their refits would have answered; each refusal says which gate, and what it could have seen."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from tidemill.services.retraining.domain.slices import judge_slices
from tidemill.services.retraining.domain.strategy_gate import PairedScores, judge_strategy
from tidemill.services.retraining.domain.verdict import GateVerdict
from tidemill.shared.application.gate_policy import Gate
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.kinds.regression import Regression

DAYS, PER_DAY = 28, 200
N = DAYS * PER_DAY
RANDOM = np.random.default_rng(11)
BLOCKS = np.repeat(np.arange(DAYS) - DAYS, PER_DAY)
CHANCE = np.clip(RANDOM.beta(0.8, 1.9, N), 0.01, 0.99)
LABELS = (RANDOM.random(N) < CHANCE).astype(np.float64)
LEVEL = 0.01


def near(noise: float, seed: int = 1) -> NDArray[np.float64]:
    """Scores about as good as the champion's."""
    logits = np.log(CHANCE / (1 - CHANCE)) + np.random.default_rng(seed).normal(0, noise, N)
    return 1 / (1 + np.exp(-logits))


def judged(candidate: NDArray[np.float64], champion: NDArray[np.float64], level: float = LEVEL, **groups: NDArray[np.bool_]) -> GateVerdict:
    return judge_strategy(Binary(), PairedScores(LABELS, candidate, champion, BLOCKS, groups), Gate(), level, 10)


def test_an_equal_recipe_is_admitted_and_a_worse_one_is_not() -> None:
    equal = judged(near(0.1, 1), near(0.1, 2))
    assert equal.passed and equal.figures["log_e"] > equal.figures["needed_log_e"] == pytest.approx(np.log(1 / LEVEL))
    worse = judged(near(0.4), near(0.0))
    assert not worse.passed and worse.reason.startswith("non-inferiority") and worse.figures["loss_difference"] > 0.01


def test_a_refusal_says_what_it_could_have_seen() -> None:
    """Too noisy for a margin of 0.005: a difference that would have passed lies below the margin, and such a one passes."""
    refused = judged(near(0.35, 1), near(0.35, 2))
    assert not refused.passed and "would have passed in 80 % of cases" in refused.reason
    assert -0.05 < refused.figures["detectable_difference"] < 0.005
    few = judge_strategy(Binary(), PairedScores(LABELS[:1000], CHANCE[:1000], CHANCE[:1000], BLOCKS[:1000], {}), Gate(), LEVEL, 10)
    assert not few.passed and "over 7 days, found 1000 matured requests that a model answered, over 5" in few.reason


def test_blocks_may_be_shorter_than_days() -> None:
    """A table of a day is judged in hours; less than seven of them show nothing, however many rows they have."""
    hours = Gate.model_validate({"block": "1h", "span": "28h"})
    assert judge_strategy(Binary(), PairedScores(LABELS, near(0.1), near(0.1, 2), BLOCKS, {}), hours, LEVEL, 10).passed
    few = judge_strategy(Binary(), PairedScores(LABELS, near(0.1), near(0.1, 2), BLOCKS // 5, {}), hours, LEVEL, 10)
    assert "over 7 blocks of 3600 s, found 5600 matured requests that a model answered, over 6" in few.reason
    with pytest.raises(ValueError, match="at least seven blocks"):
        Gate.model_validate({"block": "1h", "span": "6h"})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_score_passes_nothing(value: float) -> None:
    broken = np.where(np.arange(N) == 5, value, near(0.1))
    assert "finite" in judged(broken, near(0.1)).reason and "finite" in judged(near(0.1), broken).reason
    wrong = PairedScores(np.where(np.arange(N) == 5, value, LABELS), CHANCE, CHANCE, BLOCKS, {})
    assert not judge_strategy(Binary(), wrong, Gate(), LEVEL, 10).passed
    assert not judge_strategy(Binary(), PairedScores(np.zeros(N), CHANCE, CHANCE, BLOCKS, {}), Gate(), LEVEL, 10).passed


def test_one_day_that_is_lucky_admits_nobody_although_its_rows_are_many() -> None:
    """A row-level test would: 200 rows of one day are one observation."""
    day = BLOCKS == -3
    lucky = np.where(day, LABELS * 0.9 + 0.05, near(0.35))
    rows = Binary().losses(LABELS, lucky) - Binary().losses(LABELS, CHANCE)
    assert rows.mean() / rows.std() * np.sqrt(N) < 3.0
    assert not judged(lucky, near(0.35, 3), LEVEL).passed


def test_probabilities_that_mean_less_are_refused_although_the_loss_is_better() -> None:
    verdict = judged(np.clip(CHANCE + 0.12, 0.01, 0.99), np.full(N, LABELS.mean()))
    assert not verdict.passed and verdict.reason.startswith("calibration") and verdict.figures["calibration_difference_low"] > 0.02


def test_a_slice_that_is_harmed_refuses_and_small_ones_are_pooled() -> None:
    part = np.arange(N) % 8 == 0
    candidate = np.where(part, LABELS.mean(), CHANCE)
    groups = {f"place={i}": np.arange(N) % 8 == i for i in range(8)} | {f"tail={i}": np.arange(N) == i for i in range(30)}
    verdict = judge_strategy(Binary(), PairedScores(LABELS, candidate, near(0.8), BLOCKS, groups), Gate(), LEVEL, 10)
    assert not verdict.passed
    assert verdict.reason == "slices: expected no slice of 8 to be worse by more than 0.02, found place=0 (e-BH at 0.05)"
    told = json.loads(verdict.details["slices"])
    assert told["not judged"] == {"slices": 30, "rows": 30} and next(iter(told["judged"])) == "place=0"
    assert judge_strategy(Binary(), PairedScores(LABELS, near(0.1), near(0.1, 2), BLOCKS, groups), Gate(), LEVEL, 10).passed


@pytest.mark.lasts(2)
def test_of_equal_models_with_19_slices_hardly_any_is_refused() -> None:
    refused = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        mine, theirs = random.gamma(2.0, 0.2, N), random.gamma(2.0, 0.2, N)
        groups = {str(i): np.arange(N) % 19 == i for i in range(19)}
        refused += bool(judge_slices(Binary(), LABELS, mine, theirs, BLOCKS, groups, 0.02, 0.05).harmed)
    assert refused == 0


def test_regression_has_a_margin_relative_to_the_champions_loss_whatever_the_unit() -> None:
    value = RANDOM.normal(size=N)
    noise = [np.random.default_rng(seed).normal(size=N) for seed in (1, 2)]
    for unit in (1.0, 1e6):
        pair = [
            PairedScores(unit * value, unit * (value + own * noise[0] * 0.1 + noise[1]), unit * (value + noise[1]), BLOCKS, {}) for own in (0.3, 3.0)
        ]
        close, far = (judge_strategy(Regression(), rows, Gate(), LEVEL, 10) for rows in pair)
        assert close.passed and close.figures["margin"] == pytest.approx(0.01 * unit**2, rel=0.1)
        assert not far.passed


def test_classes_are_judged_by_log_loss_and_by_the_probability_of_what_is_answered() -> None:
    kind = Multiclass(("a", "b", "c"))
    truth = RANDOM.dirichlet([1.0, 1.0, 1.0], N)
    labels = (RANDOM.random(N)[:, None] > truth.cumsum(axis=1)).sum(axis=1).astype(np.float64)
    blunt = truth**0.5 / (truth**0.5).sum(axis=1, keepdims=True)
    assert judge_strategy(kind, PairedScores(labels, truth, blunt, BLOCKS, {}), Gate(), LEVEL, 10).passed
    worse = judge_strategy(kind, PairedScores(labels, blunt, truth, BLOCKS, {}), Gate(), LEVEL, 10)
    assert not worse.passed and worse.reason.startswith("non-inferiority")
