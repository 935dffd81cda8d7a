"""Differences between groups are fairlearn's, with bounds that hold, and small groups are left out."""

import numpy as np
import pytest
from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference
from numpy.typing import NDArray

from tidemill.services.retraining.domain.fairness import FairnessFindings, _redrawn, judge_fairness
from tidemill.shared.application.gate_policy import Fairness
from tidemill.shared.statistics.blocks import drawn_blocks

N = 6_000
BLOCKS = np.repeat(np.arange(30), N // 30)


def rows(seed: int, gap: float) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.str_]]:
    random = np.random.default_rng(seed)
    group = random.choice(["a", "b", "c"], N)
    labels = (random.random(N) < 0.3).astype(np.float64)
    return labels, (random.random(N) < 0.2 + 0.4 * labels + gap * (group == "c")).astype(np.int32), group


def judged(labels: NDArray[np.float64], predicted: NDArray[np.int32], group: NDArray[np.str_], **limits: float) -> FairnessFindings:
    groups = {f"place={name}": group == name for name in np.unique(group)}
    return judge_fairness(labels, predicted, BLOCKS, groups, Fairness.model_validate({"columns": ["place"], **limits}))


def test_the_measures_are_those_of_fairlearn() -> None:
    labels, predicted, group = rows(1, 0.1)
    verdict = judged(labels, predicted, group).figures
    assert verdict["demographic_parity__place"] == pytest.approx(demographic_parity_difference(labels, predicted, sensitive_features=group))
    assert verdict["equalized_odds__place"] == pytest.approx(equalized_odds_difference(labels, predicted, sensitive_features=group))


def test_a_redraw_of_the_blocks_has_fairlearns_measures_of_its_rows() -> None:
    """A redraw is a weight for each row: how often its block was drawn, times the row's own."""
    labels, predicted, group = rows(4, 0.1)
    weights = np.random.default_rng(4).uniform(0.5, 2.0, N)
    redrawn = _redrawn(labels, predicted, BLOCKS, [group == name for name in ("a", "b", "c")], weights)
    draws = drawn_blocks(30, 500, 0)[1:]
    for place in (0, 250, 499):
        own = {"sensitive_features": group, "sample_weight": weights * draws[place][BLOCKS]}
        assert redrawn[0][place] == pytest.approx(demographic_parity_difference(labels, predicted, **own))
        assert redrawn[1][place] == pytest.approx(equalized_odds_difference(labels, predicted, **own))


def test_what_surely_exceeds_a_limit_is_refused_and_chance_is_not() -> None:
    bad = judged(*rows(2, 0.3), demographic_parity=0.2, equalized_odds=0.5)
    assert bad.problem.startswith("fairness: expected groups of place to differ by at most 0.2 in demographic_parity, found 0.")
    assert bad.problem.count("expected") == 1
    refused = sum(bool(judged(*rows(seed, 0.0), demographic_parity=0.01, equalized_odds=0.02).problem) for seed in range(12))
    assert refused <= 2, "no group is answered differently: what is found is chance"


def test_small_groups_are_not_judged() -> None:
    labels, predicted, group = rows(3, 0.0)
    group = np.where(np.arange(N) < 150, "few", np.where(group == "c", "a", group))
    predicted = np.where(group == "few", 1, predicted).astype(np.int32)
    verdict = judged(labels, predicted, group)
    assert not verdict.problem and verdict.figures["fairness_groups__place"] == 2
    assert judged(labels, predicted, np.full(N, "one")).figures == {"fairness_groups__place": 1.0}
