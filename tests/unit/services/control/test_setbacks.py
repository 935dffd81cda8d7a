"""What sends a challenger back, looked at after every block of its trial: how often by chance, and how soon when it should."""

import json
from typing import Any

import numpy as np
import pytest

from tests.unit.services.control.test_stages import BOTH, block, watch
from tidemill.services.control.domain.setbacks import setback
from tidemill.services.control.domain.trial_state import StagePolicy, TrialBlock, TrialState
from tidemill.shared.application.stages import CanaryStage, ShadowStage, Stages

LIMIT = BOTH.limits.calibration
POLICY = StagePolicy("m", "binary", BOTH, 0.005, 0.02, 0.05)


def first_setback(differences: Any, excess: Any) -> tuple[int, str]:
    """The first block after which a challenger goes back, and why; -1 if none of them sends it back."""
    trial = TrialState("v2", 5, "shadow", "shadow", 0, 0, slices={"": []})
    for day, (difference, off) in enumerate(zip(differences, excess, strict=True)):
        trial.blocks.append(TrialBlock(800, 200, 0.45, float(difference), float(off)))
        if words := setback(POLICY, trial, {"champion_loss": 0.45, "challenger_loss": 0.45, "trial_labels": 1.0, "trial_blocks": 1.0}):
            return day, words
    return -1, ""


def days(random: np.random.Generator, mean: float, spread: float, correlation: float) -> list[float]:
    """Four weeks whose days go together with the day before."""
    last, series = random.standard_normal(), []
    for _ in range(28):
        last = correlation * last + np.sqrt(1 - correlation**2) * random.standard_normal()
        series.append(mean + spread * last)
    return series


@pytest.mark.parametrize("correlation", [0.0, 0.3])
def test_few_that_stand_at_the_limit_of_calibration_go_back_however_often_they_are_looked_at(correlation: float) -> None:
    random = np.random.default_rng(1)
    worlds = [days(random, LIMIT, 0.03, correlation) for _ in range(100)]
    back = sum(first_setback([0.0] * 28, world)[0] >= 0 for world in worlds)
    # What was done before, as an oracle: two standard errors at each look from the third day on.
    means = np.array(worlds)
    certain = [any(np.mean(one[:n]) - 2 * np.std(one[:n], ddof=1) / np.sqrt(n) > LIMIT for n in range(3, 29)) for one in means]
    assert back <= 5 and sum(certain) >= 15


def test_few_that_are_no_worse_go_back_for_anything() -> None:
    random = np.random.default_rng(2)
    back = [first_setback(days(random, 0.0, 0.01, 0.0), days(random, 0.0, 0.03, 0.0))[1] for _ in range(60)]
    assert sum(bool(words) for words in back) <= 5


def test_one_whose_scores_mean_far_less_goes_back_within_nine_days() -> None:
    random = np.random.default_rng(3)
    setbacks = [first_setback([0.0] * 28, days(random, LIMIT + 0.1, 0.03, 0.0)) for _ in range(20)]
    assert all(words.startswith("calibration: ") and "e = " in words for _, words in setbacks)
    assert float(np.median([day for day, _ in setbacks])) <= 9


def test_one_whose_scores_seem_to_mean_less_neither_moves_on_nor_goes_back_before_it_is_shown() -> None:
    """Three days are too few to send a refit back for, and enough not to let it serve everybody."""
    refits = watch(Stages(shadow=ShadowStage(), canary=CanaryStage(), refits="canary"))
    said = []
    for day in range(30):
        score = 0.25 + (0.01 if day % 2 else 0.11) * (day < 6)
        said += refits.trial(block(day, stage="canary", difference=-0.001 * (1 + day % 2), challenger_score=score))
        if said:
            break
    (promoted,) = said
    assert promoted["action"] == "promote_refit" and promoted["journal_time"] > 8 * 86_400_000, "the days after it make up for them"
    assert promoted["figures"]["calibration_excess"] <= LIMIT
    assert json.dumps(promoted["figures"])
