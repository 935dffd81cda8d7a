"""An A/B test ends with a winner, or with what it could not show; by the loss of both, or by what became of each one's requests."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.simulated_days import correlated_days
from tests.unit.services.control.test_stages import BOTH, DAY, block
from tidemill.services.control.domain.stages import StageWatch
from tidemill.services.control.domain.trial_state import StagePolicy
from tidemill.shared.application.stages import ABStage, CanaryStage, ShadowStage, Stages

BY_LABEL = Stages(ab=ABStage(metric="label", better="lower"))
ENTITIES = 600


def watch(stages: Stages | None = None, kind: str = "binary") -> StageWatch:
    return StageWatch([StagePolicy("m", kind, stages or Stages(ab=ABStage()), 0.005, 0.02, 0.05)])


def ab_block(day: int, difference: float = 0.0, **changes: Any) -> dict[str, Any]:
    nothing = {f"{arm}_arm_{what}": empty for arm in ("challenger", "champion") for what, empty in (("labels", 0), ("label", None))}
    return {**block(day, 7, "ab", difference), "share": 0.5, "arm_difference": None, "arm_weights": [], "arm_sums": [], **nothing, **changes}


def losses(mean: float, seed: int, sd: float = 0.004, count: int = 40) -> Iterator[dict[str, Any]]:
    for day, difference in enumerate(mean + correlated_days(np.random.default_rng(seed), 1, count, 0.0, sd)[0]):
        yield ab_block(day, float(difference))


def arms(effect: float, seed: int, spread: float = 0.0, day_effect: float = 0.0, count: int = 40) -> Iterator[dict[str, Any]]:
    """Labels that the challenger's answers move by so much, of entities that differ and stay in their arm; no loss differs."""
    rng = np.random.default_rng(seed)
    bucket, own = rng.integers(0, 100, ENTITIES), rng.normal(0, spread, ENTITIES)
    drift = correlated_days(rng, 1, count, 0.3, day_effect)[0]
    for day in range(count):
        who = rng.integers(0, ENTITIES, 800)
        mine = bucket[who] < 50
        chance = np.clip(0.25 + own[who] + mine * (effect + drift[day]), 0, 1)
        label = (rng.random(800) < chance).astype(float)
        weights, sums = np.bincount(bucket[who], minlength=100), np.bincount(bucket[who], label - 0.25, 100)
        yield ab_block(
            day, float(rng.normal(0, 0.02)), challenger_arm_labels=int(mine.sum()), champion_arm_labels=int((~mine).sum()),
            challenger_arm_label=float(label[mine].mean()), champion_arm_label=float(label[~mine].mean()),
            arm_difference=float((label[mine] - 0.25).mean() - (label[~mine] - 0.25).mean()), arm_weights=weights.tolist(), arm_sums=sums.tolist(),
        )  # fmt: skip


def play(one: StageWatch, records: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """Follow records to the first decision."""
    for record in records:
        if said := one.trial(record):
            return said[0]
    raise AssertionError("expected a decision")


@pytest.mark.parametrize(("mean", "action", "words"), [(-0.02, "promote", "the challenger wins"), (0.02, "step_back", "the champion wins")])
def test_the_one_with_the_lower_loss_wins_and_the_figures_are_there(mean: float, action: str, words: str) -> None:
    said = play(watch(), losses(mean, 1))
    assert (said["action"], said["version"], said["trigger"], said["verdict"]) == (action, "v2", "trial", "requested")
    assert said["reason"].startswith(f"v2 in an A/B test: {words}: loss 0.4") and "e = " in said["reason"] and "of 67" in said["reason"]
    assert said["journal_time"] <= 11 * DAY, "as soon as it is shown"
    figures = said["figures"]
    assert figures["loss_difference"] == pytest.approx(figures["challenger_loss"] - figures["champion_loss"])
    assert figures["loss_difference_low"] < mean < figures["loss_difference_high"] and figures["needed_log_e"] == pytest.approx(np.log(1 / 0.015))
    assert max(figures["loss_difference_log_e_lower"], figures["loss_difference_log_e_higher"]) >= figures["needed_log_e"]
    assert 0 < figures["detectable_difference"] < 0.02


def test_two_that_differ_by_less_than_the_margin_end_without_a_winner_before_the_time_is_over() -> None:
    said = play(watch(), losses(0.0, 2, 0.002))
    assert said["action"] == "step_back" and said["journal_time"] < 14 * DAY
    assert "nobody wins, the champion stays: no difference of 0.005 or more: loss" in said["reason"]


def test_what_is_not_shown_within_the_time_ends_with_what_could_have_been_seen() -> None:
    said = play(watch(), losses(0.0, 3, 0.2))
    assert said["action"] == "step_back" and said["journal_time"] == 15 * DAY
    assert "no difference shown within 14 days" in said["reason"] and "either way would have been seen in 80 % of cases" in said["reason"]
    assert said["figures"]["detectable_difference"] > 0.1
    silent = play(watch(), (ab_block(day, labels=0, positives=0, difference_mean=None, champion_loss=None) for day in range(20)))
    assert "no labelled request; none would have been seen on so few blocks" in silent["reason"]


def test_labels_that_answers_influence_decide_where_the_loss_shows_nothing() -> None:
    said = play(watch(BY_LABEL), arms(-0.15, 4))
    assert said["action"] == "promote" and "the challenger wins: mean label 0.1" in said["reason"]
    assert said["figures"]["arm_difference_high"] < 0 < said["figures"]["loss_difference_high"]
    higher = Stages(ab=ABStage(metric="label", better="higher"))
    assert "the champion wins" in play(watch(higher), arms(-0.15, 4))["reason"]
    assert "the challenger wins" in play(watch(higher), arms(0.15, 5))["reason"]


def test_where_the_loss_is_the_metric_and_answers_influence_labels_nobody_wins_and_that_is_said() -> None:
    said = play(watch(), arms(-0.25, 6))
    assert said["action"] == "step_back" and "nobody wins, the champion stays: labels differ between the arms (-0." in said["reason"]
    assert "ask for metric: label" in said["reason"]


def test_arms_of_equal_versions_are_seldom_decided_though_their_entities_differ() -> None:
    long = Stages(ab=ABStage.model_validate({"metric": "label", "better": "lower", "for": "28d"}))
    said = [play(watch(long), arms(0.0, seed, spread=0.1, day_effect=0.02)) for seed in range(40)]
    assert sum("wins:" in one["reason"] and "nobody" not in one["reason"] for one in said) <= 3
    assert sum(one["action"] == "promote" for one in said) <= 2


def test_a_test_without_scores_ends_at_once() -> None:
    (said,) = watch().trial(ab_block(0, challenger_failures=90))
    assert said["action"] == "step_back" and "in an A/B test: errors: expected it to have a score" in said["reason"]


def test_a_slice_that_is_harmed_ends_a_test_by_loss() -> None:
    def records() -> Iterator[dict[str, Any]]:
        for day, whole in enumerate(losses(0.0, 8)):
            yield ab_block(day, 0.2 + whole["difference_mean"], slice="country=NZ", labels=60, positives=20)
            yield whole

    said = play(watch(Stages(ab=ABStage.model_validate({"for": "60d", "margin": 1e-9}))), records())
    assert said["action"] == "step_back" and "slices: expected none" in said["reason"]


def test_a_candidate_goes_through_every_stage_and_the_test_begins_anew() -> None:
    one, stages = watch(BOTH.model_copy(update={"ab": ABStage()})), [("shadow", 5)]
    said: list[dict[str, Any]] = []
    for record in losses(-0.02, 9, count=60):
        stage, sequence = stages[-1]
        setback = one.trial(record | {"stage": stage, "challenger_sequence": sequence})
        said += setback
        if setback and setback[0]["action"] in ("canary", "ab"):
            stages.append((setback[0]["action"], sequence + 1))
        if setback and setback[0]["action"] == "promote":
            break
    assert [one["action"] for one in said] == ["canary", "ab", "promote"]
    begins, ends = (one["journal_time"] // DAY for one in said[1:])
    assert 7 <= said[-1]["figures"]["ab_blocks"] == ends - begins, "days in shadow and as a canary do not count"
    only = watch(Stages(shadow=ShadowStage(), ab=ABStage()))
    assert play(only, (record | {"stage": "shadow", "challenger_sequence": 5} for record in losses(0.0, 10)))["action"] == "ab"


def test_tests_that_come_by_themselves_draw_on_the_account_of_trials_and_those_of_an_operator_do_not() -> None:
    one, levels = watch(Stages(shadow=ShadowStage(), ab=ABStage())), list[float]()
    for number in range(5):
        said: list[dict[str, Any]] = []
        for record in losses(-0.02, 20 + number, count=60):
            stage = "ab" if said else "shadow"
            own = {"stage": stage, "challenger_sequence": 10 * number + len(said), "challenger_version": f"v{number}"}
            said += one.trial(record | own)
            if said and said[-1]["action"] == "promote":
                break
        figures = said[-1]["figures"]
        levels.append(figures["level"])
        assert (
            figures["needed_log_e"] == pytest.approx(-np.log(figures["level"])) and figures["loss_difference_log_e_lower"] >= figures["needed_log_e"]
        )
        assert f"of {1 / figures['level']:.0f}" in said[-1]["reason"]
    assert levels == pytest.approx([0.0075 * 0.75**number for number in range(5)])
    asked = play(watch(Stages(shadow=ShadowStage(), ab=ABStage())), losses(-0.02, 20))
    assert "level" not in asked["figures"] and asked["figures"]["needed_log_e"] == pytest.approx(np.log(1 / 0.015))


def test_a_refit_that_has_baked_is_promoted_without_a_test() -> None:
    refits = Stages(shadow=ShadowStage(), canary=CanaryStage(), ab=ABStage(), refits="canary")
    said = play(watch(refits), (record | {"stage": "canary"} for record in losses(-0.002, 11, 0.002)))
    assert said["action"] == "promote_refit" and "a refit that has baked" in said["reason"]


@pytest.mark.parametrize("records", [lambda: losses(-0.003, 12, 0.02), lambda: arms(-0.1, 13, 0.1)])
def test_a_restart_after_any_block_decides_the_same(records: Any) -> None:
    whole = play(watch(BY_LABEL), records())

    class Restarting(StageWatch):
        def trial(self, record: Any) -> list[dict[str, Any]]:
            said = super().trial(record)
            again = watch(BY_LABEL)
            again.load(json.loads(json.dumps(self.snapshot())))
            self.__dict__.update(again.__dict__)
            return said

    assert play(Restarting([StagePolicy("m", "binary", BY_LABEL, 0.005, 0.02, 0.05)]), records()) == whole
