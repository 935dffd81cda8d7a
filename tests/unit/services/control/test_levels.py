"""Levels of a year's trials: many challengers that are worse by the margin, one after another, and what each decision says of its level."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from campaigns.gate_years import TRIAL_MARGIN, days_of_years, trials_of_years
from tests.unit.services.control.test_stages import BOTH, DAY, block
from tidemill.services.control.domain.stages import StageWatch
from tidemill.services.control.domain.trial_state import StagePolicy
from tidemill.shared.application.stages import CanaryStage, ShadowStage, Stages
from tidemill.shared.statistics.eprocess import below

POLICY = StagePolicy("m", "binary", BOTH, 0.005, 0.02, 0.05)


def challengers(means: list[float], sd: float, seed: int, days: int = 29) -> Iterator[dict[str, Any]]:
    """One challenger after another, each with its own version and days; the stage is the watch's to move on."""
    random = np.random.default_rng(seed)
    for number, mean in enumerate(means):
        for day in range(number * (days + 1), number * (days + 1) + days):
            yield block(day, sequence=10 * number + 5, challenger_version=f"c{number}", difference=float(random.normal(mean, sd)))


def play(one: StageWatch, records: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = []
    canary: set[str] = set()
    gone: set[str] = set()
    for record in records:
        version = record["challenger_version"]
        if version in gone:
            continue
        if version in canary:
            record |= {"stage": "canary", "challenger_sequence": record["challenger_sequence"] + 1}
        for decision in one.trial(record):
            said.append(decision)
            (canary if decision["action"] == "canary" else gone).add(version)
    return said


def test_each_challenger_of_a_year_is_tested_at_a_smaller_level_and_says_what_is_left() -> None:
    said = [one for one in play(StageWatch([POLICY]), challengers([-0.01] * 16, 0.004, 1, days=24)) if one["action"] == "promote"]
    assert len(said) == 16
    levels, left = ([one["figures"][name] for one in said] for name in ("level", "level_left"))
    # A plain loop over the rule: a quarter of what is left of .03, and what is older than 365 days has come back.
    spent: list[tuple[int, float]] = []
    for one, level, rest in zip(said, levels, left, strict=True):
        now = one["journal_time"] - DAY
        lasting = [(at, part) for at, part in spent if now - 365 * DAY < at]
        expected = 0.25 * (0.03 - sum(part for _, part in lasting))
        assert level == pytest.approx(expected)
        assert rest == pytest.approx(0.03 - sum(part for _, part in lasting) - level)
        spent = [*lasting, (now, level)]
    assert sum(levels[:15]) < 0.03 and levels[-1] > levels[-2], "of the first a year has passed"
    assert "e = " in said[1]["reason"] and "of 178: level 0.00562, 0.0169 left within a year)" in said[1]["reason"]


def test_a_restart_between_challengers_draws_the_same_levels() -> None:
    records = list(challengers([-0.01, 0.02, 0.0, -0.01], 0.004, 2))

    class Restarting(StageWatch):
        def trial(self, record: Any) -> list[dict[str, Any]]:
            said = super().trial(record)
            again = StageWatch([POLICY])
            again.load(json.loads(json.dumps(self.snapshot())))
            self.__dict__.update(again.__dict__)
            return said

    assert play(Restarting([POLICY]), iter([dict(one) for one in records])) == play(StageWatch([POLICY]), iter(records))


def test_state_of_before_levels_were_drawn_is_taken_up() -> None:
    one = StageWatch([POLICY])
    for record in challengers([0.0], 0.004, 3, days=5):
        one.trial(record)
    state = one.snapshot()
    for name in ("level", "spent"):
        del state["m"][name]
    again = StageWatch([POLICY])
    again.load(state)
    assert again.snapshot() == one.snapshot()


def test_refits_and_challengers_that_went_back_before_their_test_spend_nothing() -> None:
    refits = StagePolicy("m", "binary", Stages(shadow=ShadowStage(), canary=CanaryStage(), refits="canary"), 0.005, 0.02, 0.05)
    one = StageWatch([refits])
    refit = [record | {"stage": "canary", "challenger_version": "r"} for record in challengers([0.0], 0.002, 4, days=6)]
    assert [said["action"] for said in play(one, iter(refit))] == ["promote_refit"]
    bad = [record | {"challenger_sequence": 50} for record in challengers([0.05], 0.004, 5)]
    assert [said["action"] for said in play(one, iter(bad))] == ["step_back"]
    assert one.snapshot()["m"]["spent"] == []
    good = [record | {"challenger_version": "good", "challenger_sequence": 90} for record in challengers([-0.01], 0.004, 6)]
    assert play(one, iter(good))[-1]["figures"]["level"] == 0.0075


def test_the_simulated_trials_are_those_of_the_watch() -> None:
    """The years below are whole arrays; a year of theirs, played through the watch, has the same promotions."""
    random = np.random.default_rng(7)
    means = random.normal(0.001, 0.006, (1, 13, 28))
    simulated = trials_of_years(means, 0.05)[0]
    records = [
        block(30 * number + day, sequence=10 * number + 5, challenger_version=f"c{number}", difference=float(means[0, number, day]))
        for number in range(12) for day in range(28)
    ]  # fmt: skip
    said = play(StageWatch([StagePolicy("m", "binary", BOTH, TRIAL_MARGIN, 1.0, 0.05)]), iter(records))
    went = {one["version"] for one in said if one["action"] == "promote"}
    # The watch also sends back what is shown to be worse, and waits in shadow; here neither comes before the promotion.
    assert went == {f"c{number}" for number in range(12) if simulated[number]} and 0 < len(went) < 12


@pytest.mark.parametrize("correlation", [0.0, 0.3])
def test_of_years_of_trials_of_challengers_that_are_worse_by_the_margin_at_most_one_in_twenty_promotes_any(correlation: float) -> None:
    """The short form of `make gate-years`: 200 years of 13 challengers, each looked at after every day."""
    random = np.random.default_rng(8)
    promoted = trials_of_years(days_of_years(random, 200, 13, 0.05, correlation), 0.05).any(axis=1)
    assert promoted.sum() <= 14, "5 % are 10; more than 14 would come in 1 of 13 runs of a bound that just holds"
    every = trials_of_years(days_of_years(random, 200, 13, 0.05, correlation), 0.05, anew=True).any(axis=1)
    assert every.sum() >= 2 * max(1, promoted.sum()), "at the whole level for each they would add up"
    assert not below(np.zeros(3)).shows(0.05)


def test_state_that_names_the_champion_as_earlier_versions_wrote_it_is_taken_up() -> None:
    one = StageWatch([POLICY])
    for day in range(4):
        one.trial(block(day))
    old = json.loads(json.dumps(one.snapshot()))
    old["m"]["champion"] = "v1"
    again = StageWatch([POLICY])
    again.load(old)
    assert again.snapshot() == one.snapshot() and "champion" not in again.snapshot()["m"]
    assert [again.trial(block(day)) for day in range(4, 9)] == [one.trial(block(day)) for day in range(4, 9)]
