"""A challenger moves on, goes back or is watched longer by what its trial has shown; any restart decides the same."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tidemill.services.control.domain.stages import StageWatch
from tidemill.services.control.domain.trial_state import StagePolicy
from tidemill.shared.application.stages import ABStage, CanaryStage, ShadowStage, Stages

DAY = 86_400_000
BOTH = Stages(shadow=ShadowStage(), canary=CanaryStage())


def watch(stages: Stages | None = None, kind: str = "binary") -> StageWatch:
    margin, slice_margin = (0.01, 0.04) if kind == "regression" else (0.005, 0.02)
    return StageWatch([StagePolicy("m", kind, stages or BOTH, margin, slice_margin, 0.05)])


def block(day: int, sequence: int = 5, stage: str = "shadow", difference: float = 0.0, **changes: Any) -> dict[str, Any]:
    return {
        "model": "m", "journal_partition": 0, "journal_offset": day, "journal_time": (day + 2) * DAY, "champion_version": "v1",
        "challenger_version": "v2", "challenger_sequence": sequence, "stage": stage, "slice": "", "block_start": day * DAY,
        "block_end": (day + 1) * DAY, "requests": 900, "champion_failures": 0, "challenger_failures": 0,
        "canary_answers": 90 if stage == "canary" else 0, "labels": 800, "positives": 200,
        "champion_loss": 0.45, "challenger_loss": 0.45 + difference, "difference_mean": difference, "difference_variance": 0.01,
        "champion_score": 0.25, "challenger_score": 0.25, "champion_truth": 0.25, "challenger_truth": 0.25,
        "challenger_yes": 0, "challenger_hits": 0, **changes,
    }  # fmt: skip


def days(mean: float, seed: int, sd: float = 0.004, **changes: Any) -> Iterator[dict[str, Any]]:
    """A challenger whose loss differs by so much, with day effects; as a canary once its trial says so is the test's to play."""
    for day, difference in enumerate(np.random.default_rng(seed).normal(mean, sd, 60)):
        yield block(day, difference=float(difference), **changes)


def play(one: StageWatch, records: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Follow records; the worker obeys: the challenger goes into the next stage on the day after."""
    said: list[dict[str, Any]] = []
    for record in records:
        if said:
            if said[-1]["action"] != "canary":
                break
            record |= {"stage": "canary", "challenger_sequence": 6, "canary_answers": 90}
        said += one.trial(record)
    return said


@pytest.mark.parametrize("mean", [0.0, -0.01])
def test_one_that_is_as_good_goes_through_both_stages_and_is_promoted(mean: float) -> None:
    said = play(watch(), days(mean, 1))
    assert [(one["action"], one["version"], one["trigger"], one["verdict"]) for one in said] == [
        ("canary", "v2", "trial", "requested"), ("promote", "v2", "trial", "requested"),
    ]  # fmt: skip
    assert said[0]["journal_time"] == 8 * DAY, "after seven days of requests whose horizon has passed"
    assert said[1]["journal_time"] >= 11 * DAY, "and three more as a canary"
    assert "e = " in said[1]["reason"] and said[1]["figures"]["loss_difference"] == pytest.approx(mean, abs=0.003)


@pytest.mark.parametrize("seed", range(20))
def test_one_that_is_worse_goes_back_before_anybody_is_answered_by_it(seed: int) -> None:
    (said,) = play(watch(), days(0.02, seed))
    assert said["action"] == "step_back" and "in shadow: loss: expected no more than the champion's" in said["reason"]


def test_of_a_hundred_that_are_worse_by_the_margin_few_are_promoted_and_of_equal_ones_few_go_back_for_their_loss() -> None:
    worse = [play(watch(), days(0.005, seed, 0.02))[-1]["action"] for seed in range(100)]
    assert worse.count("promote") <= 8
    equal = [play(watch(), days(0.0, seed, 0.004))[-1] for seed in range(100)]
    assert sum("loss: expected" in one["reason"] for one in equal) <= 5
    assert sum(one["action"] == "promote" for one in equal) >= 80


def test_one_that_is_never_shown_to_be_no_worse_leaves_after_the_longest_time_and_it_is_said_what_could_have_been_seen() -> None:
    said = play(watch(), days(0.0, 3, 0.2))
    assert [one["action"] for one in said] == ["canary", "step_back"] and said[-1]["journal_time"] == 29 * DAY
    assert "expected to see within 28 days" in said[-1]["reason"] and "80 % of cases" in said[-1]["reason"]


def test_labels_are_waited_for_and_blocks_without_any_are_no_evidence() -> None:
    one = watch()
    nothing: dict[str, Any] = {"labels": 0, "positives": 0, "champion_loss": None, "challenger_loss": None, "difference_mean": None}
    assert not [said for day in range(20) for said in one.trial(block(day, **nothing))]
    assert one.trial(block(20))[0]["action"] == "canary"


def test_one_without_scores_goes_back_at_once() -> None:
    (said,) = watch().trial(block(0, challenger_failures=90))
    assert (
        said["action"] == "step_back" and "expected it to have a score for all but 1.00% of the requests, found none for 90 of 900" in said["reason"]
    )


@pytest.mark.parametrize("stage", ["shadow", "canary"])
def test_one_beside_which_requests_wait_too_long_goes_back_at_once(stage: str) -> None:
    late = {"challenger_failures": 40, "champion_failures": 38}
    (said,) = watch().trial(block(0, stage=stage, **late))
    assert said["action"] == "step_back" and "latency: expected a score for all but 1.00% of the requests, found none for 40 of 900" in said["reason"]
    assert said["figures"]["unscored_by_both"] == 38
    assert not watch().trial(block(0, stage=stage, challenger_failures=9, champion_failures=9)), "one in a hundred may"


def test_one_whose_scores_mean_less_goes_back() -> None:
    (said,) = play(watch(), days(0.0, 4, challenger_score=0.35))
    assert said["action"] == "step_back" and said["reason"].startswith("v2 in shadow: calibration: ")
    assert not [one for day in range(5) for one in watch(kind="regression").trial(block(day, challenger_score=9.0))]


def test_one_that_is_worse_in_a_slice_goes_back() -> None:
    def records() -> Iterator[dict[str, Any]]:
        noise = np.random.default_rng(5).normal(0, 0.003, 60)
        for day in range(60):
            yield block(day, slice="country=NZ", difference=0.2 + noise[day], labels=60, positives=20)
            yield block(day, slice="country=US", difference=noise[day], labels=60, positives=20)
            yield block(day, difference=float(noise[day]))

    said = play(watch(), records())
    assert said[-1]["action"] == "step_back" and "found country=NZ" in said[-1]["reason"] and "US" not in said[-1]["reason"]


def test_a_newer_challenger_begins_anew_and_an_older_ones_late_records_count_nothing() -> None:
    one = watch()
    for record in list(days(0.0, 6))[:5]:
        assert not one.trial(record)
    newer: dict[str, Any] = {"challenger_version": "v3", "sequence": 9}
    assert not one.trial(block(5, **newer))
    assert not one.trial(block(6, challenger_failures=900)), "of v2, which was superseded"
    later = [said for day in range(6, 14) for said in one.trial(block(day, **newer))]
    assert [(said["action"], said["version"]) for said in later] == [("canary", "v3")]


def test_what_a_challenger_has_shown_against_an_older_fit_does_not_make_it_serve_in_place_of_a_better_one() -> None:
    """The world changed, and the champion's recipe was refitted since: the challenger, which is older than the change, is worse than that fit."""
    older = [block(day, difference=-0.09 - 0.001 * (day % 3)) for day in range(8)]
    changed: dict[str, Any] = {"stage": "canary", "sequence": 6, "champion_version": "v3"}
    one = watch()
    said = [said for record in older for said in one.trial(record)]
    assert [one["action"] for one in said] == ["canary"]
    said = [said for day in range(8, 12) for said in one.trial(block(day, difference=0.1, **changed))]
    assert said == []


def test_a_refit_of_the_champion_that_a_challenger_is_no_worse_than_takes_nothing_from_it() -> None:
    one, differences = watch(), (-0.003, -0.0045, -0.002, -0.004, -0.0035, -0.0025, -0.004, -0.003, -0.0035)
    said = []
    for day, difference in enumerate(differences):
        said += one.trial(block(day, 6 if day > 6 else 5, "canary" if day > 6 else "shadow", difference))
    assert [one["action"] for one in said] == ["canary"]
    changed: dict[str, Any] = {"stage": "canary", "sequence": 6, "champion_version": "v3", "labels": 100, "positives": 25}
    assert one.trial(block(9, difference=-0.002, **changed)) == [], "too few labels beside the champion that serves"
    (promoted,) = one.trial(block(10, difference=-0.003, **changed))
    assert promoted["action"] == "promote"


REFITS = [
    Stages(shadow=ShadowStage(), canary=CanaryStage(), refits="canary"),
    Stages(canary=CanaryStage(), refits="canary"),
    Stages(canary=CanaryStage(), ab=ABStage(), refits="canary"),
]


def refusal(of: dict[str, Any]) -> dict[str, Any]:
    """The worker's answer on a challenger that is no refit."""
    return {"model": "m", "event": "command_refused", "decision_id": of["decision_id"], "reason": "a new recipe"}


@pytest.mark.parametrize("stages", REFITS)
def test_a_refit_bakes_as_a_canary_and_needs_no_evidence_of_its_own_but_goes_back_like_any_other(stages: Stages) -> None:
    one = watch(stages)
    said = [said for record in list(days(-0.002, 11, 0.002))[:20] for said in one.trial(record | {"stage": "canary"})]
    # The worker promotes it; what comes of the same stage until then asks nothing more and spends nothing.
    assert [one["action"] for one in said] == ["promote_refit"]
    assert said[0]["journal_time"] == 4 * DAY and "a refit that has baked" in said[0]["reason"]
    assert "level" not in said[0]["figures"] and one.snapshot()["m"]["spent"] == []
    worse = play(watch(stages), (record | {"stage": "canary"} for record in days(0.03, 12)))
    assert [one["action"] for one in worse] == ["step_back"]


def refit_asked_for(differences: list[float]) -> list[int]:
    """Days after which a refit is asked for, of blocks with such differences."""
    one = watch(REFITS[0])
    said = [(day, said) for day, difference in enumerate(differences) for said in one.trial(block(day, stage="canary", difference=difference))]
    return [day for day, told in said if told["action"] == "promote_refit"]


def test_a_refit_that_has_baked_serves_unless_its_loss_is_larger_by_more_than_blocks_differ_or_the_margin_allows() -> None:
    """Where days differ little a small difference is the refit's own; where they differ much it says nothing, up to the margin."""
    assert refit_asked_for([0.0035, 0.003, 0.004] * 4) == [], "below the margin, and seven standard errors"
    assert refit_asked_for([0.0035, 0.003, 0.004, -0.008, -0.006]) == [], "a mean of -.0007: it has looked worse, and two days show nothing"
    assert refit_asked_for([0.012, -0.009, 0.0075]) == [2], "a mean of .0035, and a standard error of .0064"
    assert refit_asked_for([0.012, -0.004, 0.0145]) == [], "a mean of .0075: beyond the margin whatever the standard error"
    few = Stages(canary=CanaryStage(**{"for": "1d"}, labels=200), refits="canary")
    (asked,) = watch(few).trial(block(0, stage="canary", difference=0.004))
    assert asked["action"] == "promote_refit", "one block says nothing of how much they differ"


@pytest.mark.parametrize("restart", [False, True])
def test_a_refit_that_has_looked_worse_has_to_show_that_it_is_no_worse(restart: bool) -> None:
    """A refit of rows from before a change, .0018 worse after nine days of a canary, was promoted as days then differed enough: .005 on what came."""
    one, said = watch(REFITS[0]), list[tuple[int, dict[str, Any]]]()
    worse = [0.0035, 0.003, 0.004, -0.006, 0.008, -0.004, 0.006, -0.002, -0.03]
    for day, difference in enumerate([*worse, *[-0.004, -0.006] * 8]):
        said += [(day, told) for told in one.trial(block(day, stage="canary", difference=difference))]
        if restart:
            state = json.loads(json.dumps(one.snapshot()))
            one = watch(REFITS[0])
            one.load(state)
    ((day, promoted),) = said
    assert promoted["action"] == "promote" and "e = " in promoted["reason"] and day > len(worse), "not on the first lucky day"


@pytest.mark.parametrize("stages", REFITS)
@pytest.mark.parametrize("restart", [False, True])
def test_a_new_recipe_that_began_as_a_canary_is_known_by_the_workers_answer_and_needs_evidence(stages: Stages, restart: bool) -> None:
    one, at = watch(stages), -1
    said: list[dict[str, Any]] = []
    for day, record in enumerate(list(days(-0.002, 11, 0.002))):
        if said and said[-1]["action"] != "promote_refit":
            break
        setback = one.trial(record | {"stage": "canary"})
        said += setback
        if setback and setback[0]["action"] == "promote_refit":
            at = day
            one.answered({**refusal(setback[0]), "decision_id": "another"})
            one.answered({**refusal(setback[0]), "event": "promoted"})
            assert not one.snapshot()["m"]["is_new_recipe"], "neither was its refusal"
            one.answered(refusal(setback[0]))
            if restart:
                state = json.loads(json.dumps(one.snapshot()))
                one = watch(stages)
                one.load(state)
    after = "promote" if stages.ab is None else "ab"
    assert [one["action"] for one in said] == ["promote_refit", after] and at == 2
    if after == "promote":
        assert "e = " in said[1]["reason"] and said[1]["figures"]["level"] > 0


@pytest.mark.parametrize("stages", REFITS)
def test_while_nobody_has_answered_whether_it_is_a_refit_it_goes_back_and_ends_like_any_other(stages: Stages) -> None:
    one = watch(stages)
    calm = [said for day in range(5) for said in one.trial(block(day, stage="canary"))]
    assert [said["action"] for said in calm] == ["promote_refit"]
    assert [said["action"] for said in one.trial(block(5, stage="canary", challenger_failures=900))] == ["step_back"]
    never = watch(stages)
    said = [said for day in range(40) for said in never.trial(block(day, stage="canary"))]
    assert [one["action"] for one in said] == ["promote_refit", "step_back"] and "its test had not begun" in said[1]["reason"]


def test_where_refits_serve_at_once_what_began_as_a_canary_is_never_taken_for_one() -> None:
    """The application has got a shadow while it was a canary: by its first stage it was taken for a refit."""
    said = play(watch(), (record | {"stage": "canary"} for record in days(0.0, 11, 0.002)))
    assert [one["action"] for one in said] == ["promote"] and "e = " in said[0]["reason"]


def test_stages_that_are_left_out_and_no_policy_of_its_own() -> None:
    straight = play(watch(Stages(shadow=ShadowStage())), days(0.0, 7))
    assert [one["action"] for one in straight] == ["promote"]
    only = watch(Stages(canary=CanaryStage()))
    assert [one["action"] for one in play(only, (record | {"stage": "canary"} for record in days(0.0, 8)))] == ["promote"]
    assert not watch().trial(block(0, challenger_failures=900) | {"model": "another"})


@pytest.mark.parametrize("mean", [0.0, 0.02])
def test_a_restart_after_any_block_decides_the_same(mean: float) -> None:
    records = list(days(mean, 9, 0.01))
    whole = play(watch(), iter(records))

    class Restarting(StageWatch):
        def trial(self, record: Any) -> list[dict[str, Any]]:
            said = super().trial(record)
            again = watch()
            again.load(json.loads(json.dumps(self.snapshot())))
            self.__dict__.update(again.__dict__)
            return said

    policy = StagePolicy("m", "binary", BOTH, 0.005, 0.02, 0.05)
    assert play(Restarting([policy]), iter(records)) == whole
    twice = watch()
    assert [one["decision_id"] for one in play(twice, iter(records))] == [one["decision_id"] for one in whole]


ODD = [{"difference_mean": None}, {"champion_score": float("nan")}, {"champion_loss": float("inf")}, {"stage": "pause"}]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: next(iter(odd)))
def test_records_whose_figures_are_no_numbers_are_no_evidence_and_end_nothing(odd: dict[str, Any]) -> None:
    """One ended control, and with it every decision on the model."""
    records, one = list(days(0.0, 8)), watch()
    strange = [{**record, "requests": 0, "challenger_failures": 0, **odd, "slice": "odd"} for record in records[:3]]
    assert play(one, iter([*records[:3], *strange, *records[3:]])) == play(watch(), days(0.0, 8))
    assert json.dumps(one.snapshot(), allow_nan=False)
