"""`tidemill ab` from its signature to the lifecycle, through the real control and retraining stages; and what cannot be compared."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.unit.services.cli.test_lifecycle_commands import KEY, MODEL, World
from tests.unit.services.drift.stream import shop
from tidemill.services.cli.__main__ import app
from tidemill.services.cli.command_answers import Answer, problem_of
from tidemill.shared.commands.signing import is_signed, signed_command


def deployed(world: World) -> dict[str, Any]:
    return world.said(world.plan.topics.deployments)[-1]


def registered(world: World, version: str) -> None:
    """A candidate whose gate refused it: it can be compared all the same."""
    head = world.operator().lifecycle(MODEL).head
    event = deployed(world) | {"sequence": head + 1, "parent": head, "decision_id": version, "event": "registered", "version": version}
    world.publish(world.plan.topics.deployments, event | {"artifact_sha256": f"sha-{version}", "threshold": 0.3})


def test_a_version_answers_its_share_beside_the_champion_and_it_is_said_who_asked_and_why(tmp_path: Path) -> None:
    world = World(tmp_path, 2)
    registered(world, "c1")
    answer = world.ask("ab", "a", version="c1", serving="v2", reason="is it worth it?", operator="ann", share=0.25)
    assert answer == Answer(True, "sent_back is compared with c1, which answers 25% of the requests.")
    event = deployed(world)
    assert (event["event"], event["version"], event["artifact_sha256"], event["threshold"], event["share"]) == ("ab", "c1", "sha-c1", 0.3, 0.25)
    assert (event["operator"], event["command_id"], event["issued_at"], event["reason"]) == ("ann", "a", 5, "is it worth it?")
    lifecycle = world.operator().lifecycle(MODEL)
    assert lifecycle.challenger is not None and lifecycle.compares and lifecycle.challenger.share == 0.25 and world.serving == "v2"
    assert world.ask("step_back", "b").text == "sent_back is tried no more with c1."
    assert world.ask("ab", "c", version="c1").text.endswith("answers 50% of the requests."), "the share of an application that names none"
    assert world.ask("promote", "d").text == "sent_back is served by c1."


def test_an_earlier_champion_can_be_compared_with_the_one_that_serves(tmp_path: Path) -> None:
    world = World(tmp_path, 3)
    assert world.ask("ab", "a", version="v1").followed and deployed(world)["artifact_sha256"] == "sha-v1"


@pytest.mark.parametrize(
    ("versions", "version", "text"),
    [
        (2, "v9", "ab: expected a registered version of the model (the latest: v1), got v9"),
        (2, "", "ab: expected a registered version of the model (the latest: v1), got none"),
        (2, "v2", "ab: expected a version to compare with the one that serves, got v2, which serves"),
        (0, "v1", "ab: expected a version that serves, to compare with, found none: the model has not been promoted yet"),
    ],
)
def test_what_cannot_be_compared_is_said_before_it_is_sent_and_by_the_worker(tmp_path: Path, versions: int, version: str, text: str) -> None:
    world = World(tmp_path, versions)
    assert problem_of("ab", version, world.operator().lifecycle(MODEL)) == text
    assert world.ask("ab", "a", version=version) == Answer(False, text)


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, float("nan"), float("inf")])
def test_a_share_out_of_range_is_refused(tmp_path: Path, share: float) -> None:
    answer = World(tmp_path, 2).ask("ab", "a", version="v1", share=share)
    assert answer == Answer(False, f"ab: expected a share of the requests above 0 and below 1 (0: the application's), got {share:g}")


def test_a_share_with_another_command_is_refused(tmp_path: Path) -> None:
    assert World(tmp_path, 2).ask("roll_back", "a", share=0.5) == Answer(False, "roll_back: expected a share with ab only, got 0.5")


def test_two_operators_at_once_begin_one_test(tmp_path: Path) -> None:
    world = World(tmp_path, 3)
    ann, bob = world.operator(), world.operator()
    for name, version in (("a", "v1"), ("b", "v2")):
        world.send("ab", name, version=version, serving=world.serving)
    world.settle()
    assert ann.answer("a") == Answer(True, "sent_back is compared with v1, which answers 50% of the requests.")
    second = bob.answer("b")
    assert second is not None and not second.followed
    assert second.text == "ab: expected no A/B test that runs, found that of v1; wait for its end, or end it with `tidemill step-back` or `promote`"


@pytest.mark.parametrize(("stage", "where"), [("shadow", "in shadow"), ("canary", "as a canary")])
def test_nothing_is_compared_while_another_candidate_is_tried_but_that_one_can_be(tmp_path: Path, stage: str, where: str) -> None:
    world = World(tmp_path, 2)
    registered(world, "c1")
    head = world.operator().lifecycle(MODEL).head
    world.publish(
        world.plan.topics.deployments, deployed(world) | {"sequence": head + 1, "parent": head, "event": stage, "share": 0.1, "decision_id": stage}
    )
    text = f"ab: expected nothing that is tried, found c1 {where}; end its trial with `tidemill step-back` or `promote` first"
    assert world.ask("ab", "a", version="v1") == Answer(False, text)
    assert world.ask("ab", "b", version="c1").followed and world.operator().lifecycle(MODEL).compares


def test_both_versions_stay_while_they_are_compared_and_a_training_is_judged_all_the_same(tmp_path: Path) -> None:
    world = World(tmp_path, 2)
    assert world.ask("ab", "a", version="v1").followed
    world.ask("retrain", "b")
    ended = world.said(world.plan.topics.retraining)[-1]
    assert ended["event"] == "finished" and "passed, not tried while the A/B test of v1 runs; it waits for its end" in ended["reason"]
    assert world.serving == "v2" and world.operator().lifecycle(MODEL).compares
    assert world.ask("pin", "c").followed and not world.operator().lifecycle(MODEL).compares, "a pin ends it"
    assert world.ask("ab", "d", version="v1").text.startswith("ab: expected a model that is not pinned, found v2 pinned")


def test_who_changes_the_share_of_a_signed_command_has_no_signature() -> None:
    record = signed_command(KEY, MODEL, "ab", "r", "a", 5, version="v1", share=0.1)
    assert is_signed(record, KEY) and not is_signed(record | {"share": 0.9}, KEY) and not is_signed(record | {"share": 0.0}, KEY)
    plain = signed_command(KEY, MODEL, "ab", "r", "a", 5, version="v1")
    assert plain["signature"].startswith("v2:") and is_signed(plain, KEY) and not is_signed(plain | {"share": 0.9}, KEY)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["late_arrival"], "expected MODEL@VERSION, got 'late_arrival'"),
        (["nothing@v1"], "expected one of sent_back, got nothing"),
        ([f"{MODEL}@v1", "--share", "1"], "expected a share of the requests above 0 and below 1, got 1"),
        ([f"{MODEL}@v1", "--share", "nan"], "expected a share of the requests above 0 and below 1, got nan"),
    ],
)
def test_what_is_no_version_or_share_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], text: str) -> None:
    shop(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    result = CliRunner().invoke(app, ["ab", *arguments, "--reason", "x", "--application", str(tmp_path)])
    assert result.exit_code == 2 and text in result.output
