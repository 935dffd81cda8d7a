"""Mutes that operators command: by rule and model, for a time or until they are unmuted, told of, over a restart."""

from functools import partial
from typing import Any

import pytest

from tests.unit.services.alerts.test_fold import EVENT, HOUR, drift, fold, rule, told
from tidemill.services.alerts.domain.fold import AlertFold
from tidemill.services.alerts.domain.rows import AlertInput
from tidemill.shared.commands.obeyed import ObeyedCommands
from tidemill.shared.commands.signing import MUTE_ALERTS, UNMUTE_ALERTS, signed_command


def order(offset: int, issued_ms: int, command: str = MUTE_ALERTS, **fields: Any) -> AlertInput:
    model = fields.pop("model", "*")
    record = signed_command(b"key", model, command, "the supplier is late", f"c{offset}", issued_ms, operator="ann", **fields)
    return AlertInput("shop-commands", 0, offset, issued_ms, record)


def drifting() -> AlertFold:
    one = fold(rule("drifting", **EVENT), rule("other", **EVENT))
    one.tick(0)
    return one


def sent(one: AlertFold) -> list[tuple[str, str, str]]:
    return [(notification.rule, notification.labels["model"], notification.status) for notification in told(one, "ops")]


def test_a_mute_holds_for_its_rules_and_its_model_and_for_its_time_and_what_still_fires_is_told_then() -> None:
    one = drifting()
    one.order([order(0, 0, rules="dr*,lag", model="fraud", duration_ms=HOUR)], at_clock=False)
    one.take("drift", [drift(0, 10), drift(1, 20, model="churn")])
    assert sent(one) == [("other", "fraud", "firing"), ("drifting", "churn", "firing"), ("other", "churn", "firing")]
    assert [notification.muted for notification in told(one) if notification.rule == "drifting"] == [True, False]
    one.tick(HOUR)
    assert sent(one)[3:] == [("drifting", "fraud", "repeated")]


def test_who_muted_what_until_when_and_why_stands_in_log_and_topic_and_goes_to_nobody_else() -> None:
    one = drifting()
    one.order([order(0, 0, rules="drifting", duration_ms=HOUR), order(1, 1, UNMUTE_ALERTS, rules="*")], at_clock=False)
    said = [notification.summary for notification in told(one)]
    assert said == [
        "ann muted drifting until 1970-01-01T01:00:00+00:00: the supplier is late",
        "ann unmuted drifting, muted by ann: the supplier is late",
    ]
    assert [notification.labels["command_id"] for notification in told(one, "log")] == ["c0", "c1"]
    assert not told(one, "ops")
    one.take("drift", [drift(0, 10)])
    assert len(sent(one)) == 2


def test_a_mute_survives_a_restart_and_a_command_that_is_read_again_changes_nothing() -> None:
    one = drifting()
    commands = [order(0, 0, rules="*"), order(1, 5, rules="*", model="x", duration_ms=HOUR)]
    one.order(commands, at_clock=False)
    again = fold(rule("drifting", **EVENT), rule("other", **EVENT))
    again.load(one.snapshot())
    again.order(commands, at_clock=False)
    assert again.snapshot() == one.snapshot()
    again.take("drift", [drift(0, 30 * 24 * HOUR)])
    assert not sent(again), "without a duration it holds until it is unmuted"
    again.order([order(2, 30 * 24 * HOUR, UNMUTE_ALERTS, rules="drift*,other")], at_clock=False)
    again.tick(30 * 24 * HOUR + 1)
    assert not sent(again), "its rules are all, which drift* and other are not"
    again.order([order(3, 30 * 24 * HOUR, UNMUTE_ALERTS, rules="*")], at_clock=False)
    again.tick(30 * 24 * HOUR + 2)
    assert sent(again) == [("drifting", "fraud", "repeated"), ("other", "fraud", "repeated")]


@pytest.mark.parametrize("duration_ms", [0, 240 * HOUR])
def test_a_copy_of_a_signed_mute_mutes_nothing_after_it_is_over(duration_ms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever can write to the topic can copy what an operator signed."""
    one, day = drifting(), 24 * HOUR
    mute, unmute = order(0, 0, rules="*", duration_ms=duration_ms), order(1, 2 * HOUR, UNMUTE_ALERTS, rules="*")
    one.order([mute, unmute], at_clock=False)
    monkeypatch.setattr("tidemill.services.alerts.domain.muting.ObeyedCommands", partial(ObeyedCommands, 5))
    again = fold(rule("drifting", **EVENT), rule("other", **EVENT))
    again.load(one.snapshot())
    again.tick(3 * day)
    again.order([mute._replace(offset=2)], at_clock=False)
    again.take("drift", [drift(0, 3 * day)])
    assert len(sent(again)) == 2
    assert told(again)[-3].summary == "*: this command was followed before"
    # Its id is forgotten, its time is not.
    for number in range(6):
        again.order([order(3 + number, 4 * day + number, UNMUTE_ALERTS, rules="nothing")], at_clock=False)
    again.order([mute._replace(offset=20_000)], at_clock=False)
    assert "no newer than those forgotten" in told(again)[-1].summary


@pytest.mark.parametrize(("at_clock", "sends"), [(True, 0), (False, 2)])
def test_in_a_replay_a_mute_lasts_for_journal_time_live_from_the_instant_of_the_command(at_clock: bool, sends: int) -> None:
    one = drifting()
    one.take("drift", [drift(0, 90 * HOUR, "info")])
    one.order([order(0, 88 * HOUR, rules="*", duration_ms=HOUR)], at_clock=at_clock)
    one.take("drift", [drift(1, 90 * HOUR + HOUR // 2)])
    assert len(sent(one)) == sends


def test_other_commands_of_the_topic_only_move_the_position() -> None:
    one = drifting()
    one.order([order(0, 0, "retrain"), AlertInput("shop-commands", 0, 1, 0, {"command": ""})], at_clock=False)
    assert not told(one)
    assert one.positions["shop-commands:0"] == 2
