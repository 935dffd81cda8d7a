"""Where a candidate that has passed goes first, by the application's stages and by who serves."""

from typing import Any

import pytest

from tidemill.services.retraining.domain.first_stage import REFIT, FirstStage, Tried, first_stage, held_back
from tidemill.shared.application.stages import ABStage, CanaryStage, ShadowStage, Stages
from tidemill.shared.models.deployments import Lifecycle

SHADOW, CANARY, AB = {"shadow": ShadowStage()}, {"canary": CanaryStage(share=0.2)}, {"ab": ABStage(share=0.4)}


def lifecycle(*events: str) -> Lifecycle:
    lifecycle = Lifecycle()
    for event in events:
        lifecycle = lifecycle.apply({
            "sequence": lifecycle.head + 1, "parent": lifecycle.head, "model": "m", "event": event, "version": f"v{lifecycle.head + 1}",
            "artifact_sha256": "a", "threshold": 0.5, "share": 0.5, "reason": "because", "operator": "", "journal_time": 0,
        })  # fmt: skip
    return lifecycle


@pytest.mark.parametrize(
    ("stages", "admission", "event", "share"),
    [
        ({}, "", "promoted", 1.0),
        ({**SHADOW, **CANARY, **AB}, "", "shadow", 0.0),
        ({**CANARY, **AB}, "", "canary", 0.2),
        (AB, "", "ab", 0.4),
        ({**SHADOW, **AB}, REFIT, "promoted", 1.0),
        ({**SHADOW, **CANARY, **AB, "refits": "canary"}, REFIT, "canary", 0.2),
    ],
)
def test_a_candidate_goes_into_the_first_stage_there_is(stages: dict[str, Any], admission: str, event: str, share: float) -> None:
    goes = first_stage(Stages(**stages), lifecycle("promoted"), admission)
    assert (goes.event, goes.share) == (event, share)
    assert first_stage(Stages(**stages), lifecycle(), admission).event == "promoted", "a first model is compared with nobody"


@pytest.mark.parametrize(
    ("events", "words"),
    [
        (("promoted",), ""),
        (("promoted", "canary"), ""),
        (("promoted", "ab"), "not tried while the A/B test of v1 runs; it waits for its end"),
        (("promoted", "ab", "stepped_back"), ""),
        (("promoted", "ab", "promoted"), ""),
        (("promoted", "ab", "pinned"), "not promoted while v2 pinned (because)"),
    ],
)
def test_two_versions_that_are_compared_stay_what_they_are(events: tuple[str, ...], words: str) -> None:
    assert held_back(lifecycle(*events)) == words


def test_a_refit_serves_at_once_beside_the_trial_of_another_recipe() -> None:
    now = lifecycle("promoted", "shadow")
    direct, by_canary = Stages(**SHADOW, **CANARY), Stages(**SHADOW, **CANARY, refits="canary")
    assert first_stage(direct, now, REFIT, "another") == FirstStage("promoted", 1.0, keeps_trial=True)
    assert not held_back(now, direct, REFIT, "another")
    # Where refits answer a share first there is room for one.
    assert held_back(now, by_canary, REFIT, "another").startswith("not tried while another recipe is on trial, as v1 (shadow)")
    others: tuple[Tried, ...] = ("unknown", "champion's")
    for tried in others:
        assert not held_back(now, by_canary, REFIT, tried) and first_stage(by_canary, now, REFIT, tried).event == "canary"
        assert not first_stage(direct, now, REFIT, tried).keeps_trial, "a newer refit takes an older one's place"


def test_a_refit_that_an_alarm_asked_for_need_not_bake() -> None:
    now, baked, urgent = lifecycle("promoted"), Stages(**CANARY, refits="canary"), Stages(**CANARY, refits="canary_unless_drift")
    for trigger in ("schedule", "labels", "manual", ""):
        assert first_stage(urgent, now, REFIT, trigger=trigger) == FirstStage("canary", 0.2)
    assert first_stage(urgent, now, REFIT, trigger="drift") == FirstStage("promoted", 1.0)
    assert first_stage(baked, now, REFIT, trigger="drift") == FirstStage("canary", 0.2)
    assert first_stage(urgent, now, "gate", trigger="drift") == FirstStage("canary", 0.2), "a new recipe has to show what it can"

    tried = lifecycle("promoted", "canary")
    assert held_back(tried, urgent, REFIT, "another", "schedule").startswith("not tried while another recipe is on trial")
    assert not held_back(tried, urgent, REFIT, "another", "drift")
    assert first_stage(urgent, tried, REFIT, "another", "drift").keeps_trial
    assert not first_stage(urgent, tried, REFIT, "champion's", "drift").keeps_trial, "it takes the place of the refit that bakes"


def test_a_newer_candidate_takes_the_place_of_one_of_another_recipe_and_not_of_its_own() -> None:
    now, stages = lifecycle("promoted", "shadow"), Stages(**SHADOW)
    assert not held_back(now, stages, "gate", "another") and not first_stage(stages, now, "gate", "another").keeps_trial
    assert held_back(now, stages, "gate", "candidate's") == "not tried: its recipe is on trial already, as v1 (shadow)"
    assert not held_back(lifecycle("promoted", "shadow", "stepped_back"), stages, "gate", "candidate's")
