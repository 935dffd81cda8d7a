"""Control as a task: what became of its decisions it reads from trainings and lifecycle, and says it in incidents."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.unit.services.control.control_world import DAY, ControlWorld, example_of
from tidemill.shared.application.planning import load_plan
from tidemill.shared.runner.progress import Progress


def answer(decision: dict[str, Any], event: str, reason: str) -> dict[str, Any]:
    place = {name: decision[name] for name in ("decision_id", "model", "trigger", "journal_partition", "journal_offset", "journal_time")}
    return {**place, "event": event, "reason": reason, "figures": {}, "details": {}}


def follow(folder: Path, restart_at: int | None) -> list[dict[str, Any]]:
    """An incident of a loss: a training is asked for, another is not, somebody pauses, the training ends after the incident does."""
    folder.mkdir()
    world = ControlWorld(folder)
    topics, time = world.plan.topics, 10 * DAY
    asked: list[dict[str, Any]] = []

    def opened() -> None:
        world.find(1, time)
        world.incident("open", ["d1"], time)

    def joined() -> None:
        world.find(2, time + 5)
        world.incident("ongoing", ["d1", "d2"], time + 5)

    script: list[Callable[[], None]] = [
        opened,
        joined,
        lambda: world.append(topics.retraining, answer(asked[0], "started", "adwin: worse")),
        lambda: world.order("p", "pause"),
        lambda: world.incident("resolved", ["d1", "d2"], time + DAY),
        lambda: world.append(topics.retraining, answer(asked[0], "finished", "v7 promoted: the loss is lower")),
        lambda: world.append(topics.retraining, answer(asked[0], "finished", "v7 promoted: the loss is lower")),
        lambda: world.order("r", "resume"),
        lambda: world.cover(time + 20 * DAY),
    ]
    for number, act in enumerate(script):
        act()
        if number == restart_at:
            world.restart()
        asked += [one for one in world.step() if one["verdict"] == "requested"]
    assert len(asked) == 1, "the alarm that was put off is over with its incident"
    return [world.codecs[topics.incidents].decode(value) for value in world.topics[topics.incidents]]


def test_an_incident_says_what_was_decided_and_what_became_of_it(tmp_path: Path) -> None:
    said = follow(tmp_path / "whole", None)
    assert [(one["number"], one["change"], one["status"]) for one in said] == [
        (1, "opened", "open"), (2, "joined", "ongoing"), (3, "acted", "ongoing"), (4, "acted", "ongoing"), (5, "resolved", "resolved"),
        (6, "acted", "resolved"),
    ], "and no more: what is over and answered is forgotten"  # fmt: skip
    identity = said[0]["decisions"][0]["decision_id"]
    assert said[0]["action"] == f"training {identity[:8]} asked for", "the record that opens it knows"
    why = "cool-down: 0 h after the last request; put off until 1970-01-14T00:00:00.000Z"
    assert said[1]["action"] == f"training {identity[:8]} asked for; no training: {why}"
    assert f"training {identity[:8]} started" in said[2]["action"] and "pause by command" in said[3]["action"]
    last = said[-1]
    assert f"training {identity[:8]}: v7 promoted: the loss is lower" in last["action"]
    assert [(one["action"], one["verdict"], one["trigger"], one["outcome"]) for one in last["decisions"]] == [
        ("train", "requested", "drift", "finished"), ("train", "skipped", "drift", ""), ("pause", "obeyed", "manual", ""),
    ]  # fmt: skip
    assert last["decisions"][0]["result"] == "v7 promoted: the loss is lower"
    assert last["journal_time"] == said[-2]["journal_time"], "time does not go back to the decision's"


def test_what_is_said_of_an_incident_is_the_same_over_a_restart_at_any_step(tmp_path: Path) -> None:
    expected = follow(tmp_path / "whole", None)
    assert all(follow(tmp_path / str(at), at) == expected for at in range(9))


def test_what_trainings_took_is_read_from_their_records_and_outlives_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    world = ControlWorld(folder)
    file, hashed = folder / "app.yaml", world.plan.application_hash
    written = file.read_text()
    file.write_text(written.replace("{bootstrap_labels: 500}", "{bootstrap_labels: 500, cool_down: 1ms, cpu_per_day: 10m}"))
    assert file.read_text() != written
    world.plan = load_plan(folder)
    file.write_text(written.replace("{bootstrap_labels: 500}", "{bootstrap_labels: 500, cool_down: 1ms}"))
    assert load_plan(folder).application_hash == world.plan.application_hash != hashed, "a budget changes no record that others are made of"
    world.restart()
    world.find(1, 10 * DAY)
    (asked,) = world.step()
    ended = answer(asked, "finished", "v7 promoted") | {"figures": {"cpu_s": 601.0}}
    world.append(world.plan.topics.retraining, ended)
    world.step()
    world.restart()
    world.find(2, 10 * DAY + 5)
    world.find(3, 11 * DAY + 1)
    skipped, put_off, requested = world.step()
    assert (put_off["cause"], put_off["verdict"], put_off["journal_time"]) == (skipped["cause"], "requested", 11 * DAY), "a day after what was taken"
    assert skipped["verdict"] == "skipped" and "trainings of the last day took 601.0 s of processor time, 600 s are allowed" in skipped["reason"]
    assert requested["verdict"] == "requested"


def test_the_answer_on_a_refit_is_read_from_the_lifecycle_log_and_outlives_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    world = ControlWorld(folder)
    file = folder / "app.yaml"
    written = file.read_text()
    stages = "    stages: {canary: {for: 1d, labels: 100}, refits: canary, longest: 90d}\n    drift:"
    file.write_text(written.replace("    drift:", stages))
    assert file.read_text() != written
    world.plan = load_plan(folder)
    topics = world.plan.topics
    world.restart()
    example = example_of("trial")
    event = example_of("deployment")
    asked: list[dict[str, Any]] = []
    for day in range(40):
        losses = {"champion_loss": 0.5, "challenger_loss": 0.49 + 0.001 * (day % 2), "difference_mean": -0.01 + 0.001 * (day % 2)}
        scores = dict.fromkeys(("champion_score", "challenger_score", "champion_truth", "challenger_truth"), 0.25)
        of_block = {"block_start": day * DAY, "block_end": (day + 1) * DAY, "journal_time": (day + 2) * DAY, "journal_offset": day}
        who = {"model": "sent_back", "stage": "canary", "slice": "", "challenger_sequence": 5, "challenger_version": "v2", "champion_version": "v1"}
        counts = {"requests": 900, "labels": 800, "positives": 200, "challenger_failures": 0, "champion_failures": 0}
        world.append(topics.trials, {**example, **of_block, **who, **losses, **scores, **counts})
        said = {name: len(world.topics[name]) for name in (topics.drift, topics.trials, topics.found_incidents)}
        progress = Progress("drift", 0, covered_time=(day + 2) * DAY + 1, outputs=said)
        world.topics[topics.progress("drift")].append(progress.encode(world.codecs[topics.progress("drift")]))
        asked += world.step()
        if len(asked) == 1 and day == 10:
            refused = {**event, "event": "command_refused", "model": "sent_back", "decision_id": asked[0]["decision_id"]}
            world.append(topics.deployments, {**refused, "journal_time": DAY})
            world.step()
            world.restart()
    assert [one["action"] for one in asked] == ["promote_refit", "promote"]
    assert asked[0]["journal_offset"] == 0 and asked[1]["journal_offset"] > 10, "evidence is looked at once it is known that it is needed"


def test_a_roll_back_ends_in_the_lifecycle_log(tmp_path: Path) -> None:
    world = ControlWorld(tmp_path)
    topics = world.plan.topics
    world.incident("open", [], DAY)
    world.order("b", "roll_back")
    (decision,) = world.step()
    example = example_of("deployment")
    event = {**example, "decision_id": decision["decision_id"], "event": "rolled_back", "reason": "v1 serves again"}
    world.append(topics.deployments, {**event, "journal_time": DAY})
    world.step()
    last = world.codecs[topics.incidents].decode(world.topics[topics.incidents][-1])
    assert (last["change"], last["decisions"][0]["outcome"], last["decisions"][0]["result"]) == ("acted", "rolled_back", "v1 serves again")
