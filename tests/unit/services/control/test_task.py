"""Control as a task: what it decided it knows again after any restart, commands between findings included."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.services.control.control_world import CONTEXT, DAY, KEY, ControlWorld
from tidemill.shared.application.planning import load_plan
from tidemill.shared.commands.signing import RESUME_STREAM, signature, signed_command
from tidemill.shared.log.records import TopicPartition


def play(folder: Path, restart_at: int | None) -> list[tuple[str, str]]:
    """A pause between two alarms, a resume, repeated commands; a restart before step number `restart_at`."""
    folder.mkdir()
    world, said = ControlWorld(folder), []
    script: list[Callable[[], None]] = [
        lambda: world.order("p", "pause"),
        lambda: world.find(1, 10 * DAY),
        lambda: world.order("r", "resume"),
        lambda: world.find(2, 10 * DAY + 5),
        lambda: world.order("b", "roll_back"),
        lambda: world.order("b", "roll_back"),
        lambda: world.find(3, 14 * DAY),
        lambda: world.cover(100 * DAY),
    ]
    for number, act in enumerate(script):
        act()
        if number == restart_at:
            world.restart()
        said += [(record["verdict"], record["decision_id"]) for record in world.step()]
    numbers = [world.codecs[world.plan.topics.decisions].decode(value)["sequence"] for value in world.topics[world.plan.topics.decisions]]
    assert numbers == list(range(len(said))), "the worker tells by them how many it has read"
    return said


def test_commands_and_findings_keep_their_order_over_a_restart_at_any_step(tmp_path: Path) -> None:
    expected = play(tmp_path / "whole", None)
    assert [verdict for verdict, _ in expected][:7] == ["obeyed", "skipped", "obeyed", "requested", "requested", "refused", "requested"]
    assert all(play(tmp_path / str(at), at) == expected for at in range(8))


@pytest.mark.parametrize("restarted", [False, True])
def test_a_command_ahead_of_all_journal_time_waits_for_it(tmp_path: Path, restarted: bool) -> None:
    """Dated 1970, it would be trained on nothing, and followed by the schedule of all the years since."""
    world = ControlWorld(tmp_path)
    world.order("t", "retrain")
    world.order("p", "pause")
    assert world.step() == [] and TopicPartition(world.plan.topics.commands, 0) not in world.last.positions
    if restarted:
        world.restart()
        assert world.step() == []
    world.cover(20_000 * DAY)
    said = world.step()
    assert [(record["verdict"], record["trigger"], record["journal_time"]) for record in said] == [
        ("requested", "manual", 20_000 * DAY), ("obeyed", "manual", 20_000 * DAY),
    ]  # fmt: skip
    assert world.last.positions[TopicPartition(world.plan.topics.commands, 0)] == 2
    world.cover(20_001 * DAY)
    assert world.step() == []


def test_an_idle_control_writes_nothing(tmp_path: Path) -> None:
    world = ControlWorld(tmp_path)
    world.find(1, DAY)
    world.step()
    again = world.task.process([], CONTEXT)
    assert not again.emissions and again.positions == world.last.positions
    assert not world.task.checkpoint(0).entries


@pytest.mark.parametrize("value", [b"nonsense", b"\x00\x00\x00\x00\x63abc"])
def test_what_is_no_command_is_answered_in_public(tmp_path: Path, value: bytes) -> None:
    world = ControlWorld(tmp_path)
    world.topics[world.plan.topics.commands].append(value)
    (answer,) = world.step()
    assert (answer["action"], answer["verdict"]) == ("unknown", "refused") and "unreadable" in answer["reason"]


def test_a_command_to_a_stream_is_not_controls_to_answer(tmp_path: Path) -> None:
    world = ControlWorld(tmp_path)
    topic = world.plan.topics.commands
    signed = signed_command(KEY, "sent_back", RESUME_STREAM, "mended")
    world.topics[topic] += [world.codecs[topic].encode(record) for record in (signed, {**signed, "signature": ""})]
    assert world.step() == []


@pytest.mark.parametrize("field", ["command_id", "model", "command", "reason", "issued_at", "signature"])
def test_a_command_that_is_not_signed_as_it_stands_is_answered_and_not_obeyed(tmp_path: Path, field: str) -> None:
    world = ControlWorld(tmp_path)
    world.cover(DAY)
    topic = world.plan.topics.commands
    right = signed_command(KEY, "sent_back", "retrain", "because", "one", issued_at=7)
    changed = {"command_id": "two", "model": "other", "command": "roll_back", "reason": "", "issued_at": 8, "signature": ""}[field]
    forged = [{**right, field: changed}, {**right, "signature": signature(right, b"another key")}, {**right, "signature": "v1:\u00e9"}]
    world.topics[topic] += [world.codecs[topic].encode(record) for record in forged]
    answers = world.step()
    assert [answer["verdict"] for answer in answers] == ["refused"] * 3 and all("unsigned" in answer["reason"] for answer in answers)
    assert len({answer["decision_id"] for answer in answers}) == 3
    world.topics[topic].append(world.codecs[topic].encode(right))
    assert [answer["verdict"] for answer in world.step()] == ["requested"], "a forged copy does not use up the id of the right one"


def test_new_limits_apply_to_what_was_really_asked_for(tmp_path: Path) -> None:
    world = ControlWorld(tmp_path)
    world.find(1, 10 * DAY)
    world.find(2, 10 * DAY + 5)
    assert [record["verdict"] for record in world.step()] == ["requested", "skipped"]
    kept, file = world.task.versions(), tmp_path / "app.yaml"
    written = file.read_text()
    file.write_text(written.replace("{bootstrap_labels: 500}", "{bootstrap_labels: 500, cool_down: 1ms, budget_per_30d: 3}"))
    assert file.read_text() != written
    world.plan = load_plan(tmp_path)
    world.restart()
    assert world.task.versions() == kept, "the runner keeps the state"
    # The second finding was put off, and nothing stands in its way any more. Decided anew, it would count twice and the budget would be spent.
    world.find(3, 11 * DAY)
    world.find(4, 12 * DAY)
    assert [record["verdict"] for record in world.step()] == ["requested", "requested", "skipped"]


def test_the_archive_is_told_of_trainings_and_of_nothing_else(tmp_path: Path) -> None:
    """A roll-back, a pause and a finding within the cool-down need nothing from the lake."""
    world = ControlWorld(tmp_path)
    world.find(1, 10 * DAY)
    world.find(2, 10 * DAY + 5)
    world.order("b", "roll_back")
    world.order("p", "pause")
    world.step()
    world.order("t", "retrain")
    world.step()
    assert world.marks == [10 * DAY, 10 * DAY + 6]
