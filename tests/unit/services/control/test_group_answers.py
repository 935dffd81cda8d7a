"""A challenger that answers groups too differently goes back; one whose groups differ within the limits, or too few of them, does not."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference

from tests.unit.services.control.test_stages import BOTH, DAY, block
from tidemill.services.control.domain.group_answers import unequal_answers
from tidemill.services.control.domain.stages import StageWatch
from tidemill.services.control.domain.trial_state import StagePolicy
from tidemill.shared.application.gate_policy import Fairness

LIMITS = Fairness(columns=("country",))
LEVEL = 0.0125


def people(rates: Sequence[float], seed: int, blocks: int = 14, each: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Group, block, label and answer of people; group g is answered with yes at rate g, whatever the label."""
    random = np.random.default_rng(seed)
    group, day = np.repeat(np.arange(len(rates)), blocks * each), np.tile(np.repeat(np.arange(blocks), each), len(rates))
    return group, day, (random.random(len(group)) < 0.4).astype(int), (random.random(len(group)) < np.array(rates)[group]).astype(int)


def counted(group: np.ndarray, day: np.ndarray, label: np.ndarray, answer: np.ndarray) -> dict[str, list[list[int]]]:
    counts: dict[str, list[list[int]]] = {}
    for name in np.unique(group):
        rows = [(group == name) & (day == one) for one in np.unique(day)]
        counts[f"country=c{name}"] = [
            [number, int(of.sum()), int(label[of].sum()), int(answer[of].sum()), int((label & answer)[of].sum())] for number, of in enumerate(rows)
        ]
    return counts


def test_the_differences_are_those_of_fairlearn() -> None:
    group, day, label, answer = people((0.3, 0.5, 0.35), 1)
    figures: dict[str, float] = {}
    unequal_answers(counted(group, day, label, answer), LIMITS, LEVEL, figures)
    parity = demographic_parity_difference(label, answer, sensitive_features=group)
    odds = equalized_odds_difference(label, answer, sensitive_features=group)
    assert figures["demographic_parity__country"] == pytest.approx(parity, abs=1e-12)
    assert figures["equalized_odds__country"] == pytest.approx(odds, abs=1e-12)


def test_what_is_shown_to_exceed_a_limit_is_a_problem_and_what_lies_within_is_none() -> None:
    apart = [unequal_answers(counted(*people((0.2, 0.6), seed, blocks=28)), LIMITS, LEVEL, {}) for seed in range(20)]
    assert sum("expected groups of country to differ by at most 0.2 in demographic_parity" in words for words in apart) >= 18
    within = [unequal_answers(counted(*people((0.3, 0.45), seed)), LIMITS, LEVEL, {}) for seed in range(50)]
    assert within.count("") == 50


def test_small_groups_and_few_blocks_are_not_judged() -> None:
    for few in (people((0.1, 0.9), 3, each=5), people((0.1, 0.9), 3, blocks=6)):
        figures: dict[str, float] = {}
        assert not unequal_answers(counted(*few), LIMITS, LEVEL, figures)
        assert figures == {"fairness_groups__country": 0.0}
    assert not unequal_answers(counted(*people((0.1, 0.9), 3)), Fairness(columns=("coun",)), LEVEL, {})


def test_daily_looks_send_few_back_whose_groups_differ_by_just_the_limit_and_most_that_differ_by_more() -> None:
    """Days differ, each for both groups and for each alone; every day from the seventh on is looked at."""
    back = {gap: sum(_ever_goes_back(gap, seed) for seed in range(20)) for gap in (0.2, 0.32)}
    assert back[0.2] <= 1 and back[0.32] >= 18, back


def _ever_goes_back(gap: float, seed: int, days: int = 28, each: int = 80) -> bool:
    random = np.random.default_rng(seed)
    whole, alone = random.normal(0, 0.05, days), random.normal(0, 0.04, (2, days))
    counts: dict[str, list[list[int]]] = {"country=a": [], "country=b": []}
    for day in range(days):
        for name, rate in zip(counts, (0.3, 0.3 + gap), strict=True):
            answers = random.random(each) < rate + whole[day] + alone[int(name == "country=b"), day]
            labels = random.random(each) < 0.4
            counts[name].append([day, each, int(labels.sum()), int(answers.sum()), int((answers & labels).sum())])
        if unequal_answers(counts, Fairness(columns=("country",), equalized_odds=1.0), LEVEL, {}):
            return True
    return False


@pytest.mark.parametrize("fairness", [LIMITS, None])
def test_a_challenger_goes_back_for_it_where_limits_are_declared(fairness: Fairness | None) -> None:
    watch = StageWatch([StagePolicy("m", "binary", BOTH, 0.005, 0.02, 0.05, fairness)])
    said: list[dict[str, Any]] = []
    counts = counted(*people((0.2, 0.7), 5, blocks=28))
    for day in range(28):
        if any(one["action"] in ("promote", "step_back") for one in said):
            break
        stage: dict[str, Any] = {"stage": "canary", "sequence": 6, "canary_answers": 90} if said else {}
        for name, blocks in counts.items():
            _, labels, positives, yes, hits = blocks[day]
            part: dict[str, Any] = {"slice": name, "labels": labels, "positives": positives, "challenger_yes": yes, "challenger_hits": hits}
            said += watch.trial(block(day, difference=0.001 * (-1) ** day, **part, **stage))
        said += watch.trial(block(day, difference=0.001 * (-1) ** day, **stage))
        again = StageWatch([StagePolicy("m", "binary", BOTH, 0.005, 0.02, 0.05, fairness)])
        again.load(json.loads(json.dumps(watch.snapshot())))
        watch = again
    assert [one["action"] for one in said] == (["step_back"] if fairness else ["canary", "promote"])
    if fairness:
        assert "v2 in shadow: fairness: expected groups of country" in said[0]["reason"] and said[0]["figures"]["fairness_groups__country"] == 2
        assert said[0]["journal_time"] > 8 * DAY, "it looked unequal when it had baked, and was not moved on"
