"""The worker: waits for the archive, answers every request once, takes up what a crash left."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.unit.services.drift.stream import APP
from tests.unit.services.retraining.worker_world import CONTEXT, MODEL, World, events, finish, result
from tidemill.services.retraining.processes.job_files import JobNews, JobResult


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_request_waits_until_the_archive_knows_what_was_known(world: World) -> None:
    world.request(1, 100)
    world.cover("control", 150)
    world.cover("archive", 99)
    assert world.step().coverage.time_ms == 99, "everything before the open request is decided"
    assert not world.trainer.asked
    world.cover("archive", 100)
    world.step()
    (asked,) = world.trainer.asked
    assert (asked.champion, asked.predecessor, asked.retraining["journal_time"]) == ("", "", 100)
    assert world.said(world.plan.topics.retraining)[-1]["event"] == "started"


def test_a_winner_is_promoted_and_the_request_passed_in_the_same_step(world: World) -> None:
    finish(world, 1, result("v1"))
    assert events(world) == ["registered", "gate_passed", "promoted"]
    assert world.lifecycle.champion is not None and world.lifecycle.champion.version == "v1"
    assert world.last.coverage.time_ms == 110
    assert [record["event"] for record in world.said(world.plan.topics.retraining)] == ["started", "finished"]


def test_a_loser_is_refused_with_its_figures(world: World) -> None:
    finish(world, 1, result("v1"))
    finish(world, 2, result("v2", passed=False))
    refused = world.said(world.plan.topics.deployments)[-1]
    assert (refused["event"], refused["version"], refused["figures"]) == ("gate_refused", "v2", {"auc": 0.7})
    assert world.lifecycle.champion is not None and world.lifecycle.champion.version == "v1"
    assert world.trainer.asked[-1].champion == "sha-v1"


def test_the_predecessor_comes_back_when_it_does_better(world: World) -> None:
    finish(world, 1, result("v1"))
    finish(world, 2, result("v2"))
    finish(world, 3, result("v3", passed=False, roll_back=True))
    assert world.trainer.asked[-1].predecessor == "sha-v1"
    assert world.lifecycle.champion is not None and world.lifecycle.champion.version == "v1"


def test_an_operator_rolls_back_without_a_training(world: World) -> None:
    finish(world, 1, result("v1"))
    world.request(2, 200, "roll_back")
    world.step()
    refused = world.said(world.plan.topics.deployments)[-1]
    assert (refused["event"], refused["version"], refused["reason"]) == (
        "command_refused", "v1", "roll_back: there is no earlier champion to roll back to",
    )  # fmt: skip
    finish(world, 3, result("v3"))
    world.request(4, 400, "roll_back")
    world.step()
    assert len(world.trainer.asked) == 2
    assert world.lifecycle.champion is not None and world.lifecycle.champion.version == "v1"


def test_a_roll_back_waits_for_no_training_and_the_candidate_is_judged_against_who_serves_now(world: World) -> None:
    finish(world, 1, result("v1"))
    finish(world, 2, result("v2"))
    world.request(3, 300)
    world.cover("archive", 310)
    world.step()
    world.request(4, 400, "roll_back")
    world.step()
    assert world.lifecycle.champion is not None and world.lifecycle.champion.version == "v1"
    world.trainer.result = result("v3")
    world.step()
    assert [asked.champion for asked in world.trainer.asked[-2:]] == ["sha-v2", "sha-v1"], "judged again"
    assert events(world)[-1] == "rolled_back"
    world.trainer.result = result("v3")
    world.step()
    assert world.lifecycle.champion.version == "v3"
    said = [(record["decision_id"][-1], record["event"]) for record in world.said(world.plan.topics.retraining)]
    assert said == [("1", "started"), ("1", "finished"), ("2", "started"), ("2", "finished"), ("3", "started"), ("3", "finished")]


def test_versions_with_the_same_bytes_do_not_hide_that_the_predecessor_has_changed(world: World) -> None:
    """Seed 60033 of the simulation: the training wanted the champion before, which a command had brought back already."""
    finish(world, 1, result("v1"))
    finish(world, 2, replace(result("v2"), artifact_sha256="sha-v1"))
    world.request(3, 300)
    world.cover("archive", 310)
    world.step()
    world.request(4, 400, "roll_back")
    world.step()
    world.trainer.result = result("v3", passed=False, roll_back=True)
    world.step()
    assert [asked.predecessor for asked in world.trainer.asked[-2:]] == ["sha-v1", ""], "compared again"
    assert world.lifecycle.champion is not None and world.lifecycle.champion.version == "v1"


def test_a_roll_back_that_was_done_before_a_crash_is_not_done_again(world: World) -> None:
    for number, version in enumerate(("v1", "v2", "v3"), 1):
        finish(world, number, result(version))
    world.request(4, 400)
    world.cover("archive", 410)
    world.step()
    world.request(5, 500, "roll_back")
    world.step()
    world.step()
    world.restart()
    topic = world.plan.topics.retraining
    world.step()
    world.step()
    assert events(world).count("rolled_back") == 1
    assert world.lifecycle.champion is not None and world.lifecycle.champion.version == "v2"
    assert [record["event"] for record in world.said(topic)].count("started") == 4, "said once, although it runs again"
    assert [asked.retraining["decision_id"][-1] for asked in world.trainer.asked] == ["4"]


def test_the_registry_hears_when_versions_went_into_and_out_of_service(world: World) -> None:
    finish(world, 1, result("v1"))
    finish(world, 2, result("v2"))
    world.request(3, 300, "roll_back")
    world.step()
    world.step()
    times = world.registrar.models[MODEL]
    first, second, third = (f"1970-01-01T00:00:00.{tenth}00000+00:00" for tenth in (1, 2, 3))
    assert times.champion == "v1"
    assert times.versions == {
        "v1": {"promoted_at": first, "retired_at": second, "restored_at": third},
        "v2": {"promoted_at": second, "rolled_back_at": third},
    }
    world.restart()
    world.step()
    assert world.registrar.models == {MODEL: times}, "and once more after a restart"


def test_a_quarantined_request_holds_nothing_up(world: World) -> None:
    world.cover("control", 150, 1)
    world.task.skipped(world.plan.topics.decisions, 0, np.array([0]))
    assert world.step().coverage.time_ms == 150


def test_a_quarantined_decision_between_others_is_counted_once_also_over_a_restart(world: World) -> None:
    for number in range(4):
        world.request(number, 100 + number, verdict="skipped")
    world.cover("control", 150)
    topic = world.plan.topics.decisions
    world.task.skipped(topic, 0, np.array([1, 3]))
    world.task.process([world.records(topic, 0, 1), world.records(topic, 2, 3)], CONTEXT)
    world.read[topic] = 4
    assert world.step().coverage.time_ms == 150
    world.restart()
    assert world.read[topic] == 2, "the last one that could be read"
    world.task.skipped(topic, 0, np.array([3]))
    world.cover("control", 160)
    world.task.process([world.records(topic, 2, 3)], CONTEXT)
    world.read[topic] = 4
    assert world.step().coverage.time_ms == 160


def test_a_failed_training_changes_no_model(world: World) -> None:
    finish(world, 1, result("v1", finished=False))
    assert events(world) == [] and world.said(world.plan.topics.retraining)[-1]["event"] == "failed"


def test_a_refit_that_has_nothing_to_learn_is_refused_and_is_no_failure(world: World) -> None:
    finish(world, 1, replace(result("v1", finished=False), reason="found none since", skipped=True))
    world.step()
    assert [(record["event"], record["reason"]) for record in world.said(world.plan.topics.retraining)][-1] == ("refused", "found none since")
    assert world.lifecycle.champion is None


def test_after_a_crash_the_open_request_is_taken_up_and_nothing_is_said_twice(world: World) -> None:
    finish(world, 1, result("v1"))
    world.request(2, 200)
    world.cover("control", 210)
    world.cover("archive", 210)
    world.step()
    world.restart()
    world.step()
    assert [asked.retraining["decision_id"][-1] for asked in world.trainer.asked] == ["2"]
    assert world.trainer.asked[0].champion == "sha-v1", "the lifecycle is known again"
    world.trainer.result = result("v2")
    world.step()
    world.restart()
    world.step()
    assert not world.trainer.asked
    assert events(world).count("promoted") == 2
    assert world.lifecycle.champion is not None and world.lifecycle.champion.version == "v2"
    assert world.last.coverage.time_ms == 210


def test_how_far_a_training_has_come_and_that_it_is_begun_again_is_told_between_its_start_and_its_end(world: World) -> None:
    world.request(1, 100)
    world.cover("control", 110)
    world.cover("archive", 110)
    world.step()
    world.trainer.untold = [JobNews("step", "searching, 1 of 6 done", {"done": "1"}), JobNews("retrying", "killed", {"attempt": "1"})]
    world.step()
    world.restart()
    world.step()
    world.trainer.result = result("v1")
    world.step()
    said = world.said(world.plan.topics.retraining)
    assert [record["event"] for record in said] == ["started", "step", "retrying", "finished"]
    assert said[2]["details"] == {"cause": said[0]["details"]["cause"], "attempt": "1"} and said[1]["decision_id"] == said[0]["decision_id"]


def test_skipped_requests_count_but_start_nothing(world: World) -> None:
    world.request(1, 100, verdict="skipped")
    world.cover("control", 150, 2)
    world.cover("archive", 500)
    assert world.step().coverage.time_ms == -1, "control has said more than was read"
    world.request(2, 120, verdict="skipped")
    assert world.step().coverage.time_ms == 150
    assert not world.trainer.asked


def test_a_request_that_an_earlier_version_left_open_is_taken_up_and_an_answered_one_is_not(world: World) -> None:
    """Versions before decisions had their own topic wrote requests to the topic of trainings."""
    record = {
        "model": MODEL, "trigger": "drift", "reason": "worse", "journal_partition": 0, "journal_offset": 0, "figures": {}, "details": {"cause": "d"},
    }  # fmt: skip
    before = [("1", "requested", 100), ("1", "started", 100), ("1", "finished", 100), ("2", "skipped", 110), ("3", "requested", 120)]
    for number, event, time in before:
        world.add(world.plan.topics.retraining, {**record, "decision_id": number, "event": event, "journal_time": time})
    back = {**record, "decision_id": "4", "event": "requested", "journal_time": 130, "details": {"cause": "c", "action": "roll_back"}}
    world.add(world.plan.topics.retraining, back)
    world.restart()
    world.cover("archive", 500)
    world.step()
    assert [asked.retraining["decision_id"] for asked in world.trainer.asked] == ["3"]
    world.trainer.result = result("v1")
    world.step()
    assert [(event["event"], event["decision_id"]) for event in world.said(world.plan.topics.deployments)] == [
        ("command_refused", "4"), ("registered", "3"), ("gate_passed", "3"), ("promoted", "3"),
    ]  # fmt: skip
    world.restart()
    world.step()
    assert not world.trainer.asked


def test_a_training_of_a_model_that_the_application_has_no_more_is_refused(world: World) -> None:
    world.request(1, 100, model="gone")
    world.cover("control", 150)
    world.cover("archive", 150)
    assert world.step().coverage.time_ms == 150
    (answer,) = world.said(world.plan.topics.retraining)
    assert answer["event"] == "refused" and "expected one of the application's models (sent_back), got gone" in answer["reason"]


def test_a_training_is_told_which_recipe_is_admitted_and_what_was_spent_and_a_restart_tells_it_the_same(world: World) -> None:
    def made(version: str, passed: bool = True, **figures: float) -> JobResult:
        return replace(result(version, passed=passed), figures=figures, details={"recipe": "r", "searched": "yes"})

    def told(number: int, trigger: str) -> tuple[str, bool, int, list[list[float]]]:
        world.request(number, number * 100, trigger=trigger)
        world.cover("control", number * 100 + 10)
        world.cover("archive", number * 100 + 10)
        world.step()
        last = world.trainer.asked[-1]
        world.restart()
        world.cover("archive", number * 100 + 11)
        world.step()
        assert world.trainer.asked == [last], "a job that runs is taken up by its request, to the letter"
        return last.recipe, last.admitted, last.searched_ms, last.spent

    assert told(1, "bootstrap") == ("", False, -1, [])
    world.trainer.result = made("v1")
    world.step()
    assert told(2, "schedule") == ("r", True, 100, [])
    world.trainer.result = made("v2", passed=False, gate_level=0.01)
    world.step()
    assert told(3, "drift") == ("r", True, 200, [[200, 0.01]])
    world.trainer.result = made("v3", gate_level=0.0075, reverse_level=0.005)
    world.step()
    assert told(4, "schedule") == ("r", True, 300, [[200, 0.01], [300, 0.0075], [300, 0.005]])
    world.trainer.result = replace(made("v4", passed=False), roll_back=True)
    world.step()
    assert told(5, "schedule") == ("r", False, 400, [[200, 0.01], [300, 0.0075], [300, 0.005]]), "a refit was rolled back"
    world.trainer.result = made("v5")
    world.step()
    assert told(6, "schedule")[:2] == ("r", True)


def candidate(version: str, recipe: str, admission: str) -> JobResult:
    return replace(result(version), details={"recipe": recipe, "admission": admission})


CANARY = APP.replace("    drift:", "    stages: {canary: {share: 0.2}, refits: canary}\n    drift:")


def test_control_asks_for_a_refits_promotion_and_the_worker_that_knows_the_recipes_obeys_or_refuses(tmp_path: Path) -> None:
    world = World(tmp_path, CANARY)
    finish(world, 1, candidate("v1", "a", "first model"))
    finish(world, 2, candidate("v2", "b", "gate"))
    world.request(3, 300, "promote_refit", trigger="trial", version="v2")
    world.step()
    refused = world.said(world.plan.topics.deployments)[-1]
    assert (refused["event"], refused["decision_id"]) == ("command_refused", f"{3:032d}")
    assert refused["reason"] == ("promote_refit: expected a refit of the recipe that serves, found a new recipe: v2 has to show that it is no worse")
    assert world.lifecycle.challenger is not None and world.lifecycle.challenger.version == "v2", "its trial goes on"
    world.request(4, 400, "step_back", trigger="trial", version="v2")
    finish(world, 5, candidate("v5", "a", "refit of an admitted recipe"))
    world.restart()
    world.request(6, 600, "promote_refit", trigger="trial", version="v5")
    world.step()
    assert (events(world)[-1], world.lifecycle.champion and world.lifecycle.champion.version) == ("promoted", "v5")
    world.request(7, 700, "promote_refit", trigger="trial", version="v5")
    world.step()
    assert events(world)[-1] == "command_refused" and "found none (v5 serves)" in world.said(world.plan.topics.deployments)[-1]["reason"]


def test_what_a_training_took_stands_in_its_record_and_in_nothing_that_tells_of_the_model(world: World) -> None:
    finish(world, 1, replace(result("v1"), cpu_s=12.5))
    finish(world, 2, replace(result("v2", finished=False), cpu_s=3.25))
    finish(world, 3, result("v3"))
    said = [one for one in world.said(world.plan.topics.retraining) if one["event"] in ("finished", "failed")]
    assert [one["figures"].get("cpu_s") for one in said] == [12.5, 3.25, None]
    assert not any("cpu_s" in one["figures"] for one in world.said(world.plan.topics.deployments)), "a backtest gives the same bytes"
