"""A candidate that an A/B test keeps waiting is tried once the test has ended, if what it was judged against still serves."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.services.drift.stream import APP
from tests.unit.services.retraining.worker_world import World, events, finish, result

SHADOW = APP.replace("    drift:", "    stages: {shadow: {for: 1d, labels: 1}}\n    drift:")


def compared(folder: Path, application: str) -> World:
    """Two champions, the first of which is compared with the second while v4 is trained."""
    world = World(folder, application)
    finish(world, 1, result("v1"))
    finish(world, 2, result("v2"))
    if world.lifecycle.challenger is not None:
        world.request(21, 250, "promote", version="v2")
    world.request(3, 300, "ab", version="v1", share=0.5)
    world.step()
    assert world.lifecycle.compares and world.lifecycle.champion is not None and world.lifecycle.champion.version == "v2"
    return world


@pytest.mark.parametrize(("application", "stage"), [(APP, "promoted"), (SHADOW, "shadow")])
@pytest.mark.parametrize("restart", [False, True])
def test_a_candidate_that_an_ab_test_keeps_waiting_is_tried_when_the_test_has_ended(
    tmp_path: Path, application: str, stage: str, restart: bool
) -> None:
    world = compared(tmp_path, application)
    finish(world, 4, replace(result("v3"), details={"admission": "gate", "recipe": "c"}))
    finish(world, 5, replace(result("v4"), details={"admission": "gate", "recipe": "d"}))
    finish(world, 6, result("v5", passed=False))
    said = world.said(world.plan.topics.retraining)
    assert [one["reason"][:70] for one in said if one["event"] == "finished"][
        -2
    ] == "v4 passed, not tried while the A/B test of v1 runs; it waits for its e"
    waiting = next(one for one in world.said(world.plan.topics.deployments) if (one["event"], one["version"]) == ("gate_passed", "v4"))
    assert (waiting["details"]["waits_for"], waiting["details"]["judged_against"]) == ("v1", "sha-v2")
    world.step()
    assert world.lifecycle.compares, "nothing ends the test but what control or an operator says of it"
    world.request(7, 700, "step_back", trigger="trial", version="v1")
    if restart:
        world.restart()
    world.step()
    last = world.said(world.plan.topics.deployments)[-2:]
    assert [(one["event"], one["version"], one["journal_time"]) for one in last] == [("stepped_back", "v1", 700), (stage, "v4", 700)]
    assert (last[1]["decision_id"], last[1]["figures"], last[1]["artifact_uri"]) == (f"{5:032d}", {"auc": 0.7}, "uri"), "of its own training"
    count = len(events(world))
    world.restart()
    world.step()
    world.step()
    assert len(events(world)) == count, "once"


def test_who_waited_for_a_test_that_brought_another_champion_is_compared_with_it_or_refused(tmp_path: Path) -> None:
    (tmp_path / "compared").mkdir()
    (tmp_path / "direct").mkdir()
    for application, folder, event in ((SHADOW, "compared", "shadow"), (APP, "direct", "gate_refused")):
        world = compared(tmp_path / folder, application)
        finish(world, 4, replace(result("v4"), details={"admission": "gate"}))
        world.request(5, 500, "promote", trigger="trial", version="v1")
        world.step()
        last = world.said(world.plan.topics.deployments)[-1]
        assert (last["event"], last["version"]) == (event, "v4") and world.lifecycle.champion is not None
        assert world.lifecycle.champion.version == "v1"
        if event == "gate_refused":
            assert last["reason"].startswith("expected the champion that it was judged against, found v1, which came into service while it waited")


def test_a_refit_that_waited_and_whose_champion_lost_the_test_does_not_go_out(tmp_path: Path) -> None:
    world = compared(tmp_path, SHADOW)
    finish(world, 4, replace(result("v4"), details={"admission": "refit of an admitted recipe"}))
    world.request(5, 500, "promote", trigger="trial", version="v1")
    world.step()
    assert events(world)[-1] == "gate_refused" and world.lifecycle.challenger is None


def test_a_pin_keeps_the_one_that_waits_until_it_is_unpinned_and_a_test_of_its_own_ends_the_waiting(tmp_path: Path) -> None:
    (tmp_path / "pinned").mkdir()
    world = compared(tmp_path / "pinned", SHADOW)
    finish(world, 4, replace(result("v4"), details={"admission": "gate"}))
    world.request(5, 500, "pin")
    world.step()
    world.step()
    assert events(world)[-1] == "pinned" and not world.lifecycle.compares
    world.request(6, 600, "unpin")
    world.step()
    assert events(world)[-2:] == ["unpinned", "shadow"]
    (tmp_path / "own").mkdir()
    world = compared(tmp_path / "own", SHADOW)
    finish(world, 4, replace(result("v4"), details={"admission": "gate"}))
    world.request(5, 500, "step_back", version="v1")
    world.request(6, 510, "ab", version="v4", share=0.5)
    world.step()
    assert events(world)[-2:] == ["stepped_back", "ab"], "both commands are carried out before anybody is placed"
    world.request(7, 700, "step_back", version="v4")
    world.step()
    world.step()
    assert events(world)[-1] == "stepped_back", "it has been tried"
