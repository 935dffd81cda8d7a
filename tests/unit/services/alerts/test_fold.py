"""Alerts fire, repeat after a cool-down, resolve, are grouped and muted; told from what comes out of the fold."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tidemill.services.alerts.domain.defaults import rules_of
from tidemill.services.alerts.domain.fold import AlertFold
from tidemill.services.alerts.domain.notification import Notification
from tidemill.services.alerts.domain.outbox import UNDELIVERED
from tidemill.services.alerts.domain.policy import AlertPolicy
from tidemill.services.alerts.domain.rows import AlertInput
from tidemill.services.alerts.service import told_from
from tidemill.shared.application.alert_rules import CompiledRule, compile_rule
from tidemill.shared.application.alerts import AlertRule, Alerts, Mute
from tidemill.shared.application.planning import load_application
from tidemill.shared.application.topics import STAGES

OWNER = "team@example.org"
HOUR = 3_600_000
FLIGHTS = Path(__file__).parents[4] / "examples" / "flights"
EVENT = {"on": "drift", "when": "severity = 'alarm'", "repeat": "1h", "resolve_after": "6h"}
LEVEL = {"on": "health", "when": "auc < 0.6", "for": "2h", "repeat": "4h"}


def rule(name: str, **keys: Any) -> CompiledRule:
    return compile_rule(name, AlertRule.model_validate(keys), OWNER)


def fold(*rules: CompiledRule, **policy: Any) -> AlertFold:
    return AlertFold(rules, AlertPolicy("shop", OWNER, **{"channels": {"ops": "info"}, "group_wait_ms": 0, **policy}))


def drift(offset: int, time_ms: int, severity: str = "alarm", model: str = "fraud") -> AlertInput:
    fields = {"model": model, "kind": "loss", "subject": "log_loss", "detector": "adwin", "severity": severity, "statistic": 0.6, "threshold": 0.5}
    return AlertInput("shop-drift", 0, offset, time_ms, fields)


def mute_command(offset: int, command_id: str, duration_ms: int) -> AlertInput:
    fields = {
        "command_id": command_id,
        "command": "mute_alerts",
        "rules": "*",
        "model": "",
        "duration_ms": duration_ms,
        "operator": "ann",
        "reason": "known",
    }
    return AlertInput("shop-commands", 0, offset, 0, fields)


def health(offset: int, time_ms: int, auc: float | None) -> AlertInput:
    return AlertInput("shop-health", 0, offset, time_ms, {"model": "fraud", "auc": auc})


def told(one: AlertFold, channel: str = "topic") -> list[Notification]:
    return [notification for message in one.outbox.values() if message.channel == channel for notification in message.notifications]


def statuses(one: AlertFold, channel: str = "topic") -> list[tuple[str, int]]:
    return [(notification.status, notification.at_ms // HOUR) for notification in told(one, channel)]


def test_an_event_fires_repeats_after_the_cool_down_and_is_over_when_none_came_for_long() -> None:
    one = fold(rule("drifting", **EVENT))
    one.take("drift", [drift(0, 0), drift(1, HOUR // 2), drift(2, HOUR), drift(3, HOUR, "warning")])
    assert statuses(one) == [("firing", 0), ("repeated", 1)]
    assert told(one)[-1].records == 3
    one.tick(7 * HOUR - 1)
    assert [series.key for series in one.firing] == [("fraud", "loss", "log_loss")]
    one.tick(7 * HOUR)
    assert statuses(one)[-1] == ("resolved", 7)
    assert not one.firing
    assert len({notification.alert_id for notification in told(one)}) == 1
    one.take("drift", [drift(4, 8 * HOUR)])
    assert told(one)[-1].alert_id != told(one)[0].alert_id


def test_a_level_fires_when_it_has_stood_for_long_enough_and_is_over_with_the_first_record_that_says_so() -> None:
    one = fold(rule("poor", **LEVEL))
    one.take("health", [health(0, 0, 0.5), health(1, HOUR, 0.7), health(2, 2 * HOUR, 0.5)])
    assert not told(one)
    one.tick(4 * HOUR)
    one.tick(7 * HOUR)
    one.tick(8 * HOUR)
    one.take("health", [health(3, 9 * HOUR, None)])
    assert statuses(one) == [("firing", 4), ("repeated", 8), ("resolved", 9)]
    assert told(one)[0].since_ms == 2 * HOUR


def test_a_record_that_comes_again_changes_nothing() -> None:
    one = fold(rule("drifting", **EVENT))
    one.take("drift", [drift(0, 0), drift(1, 10)])
    before = one.snapshot()
    one.take("drift", [drift(0, 0), drift(1, 10)])
    assert one.snapshot() == before


def test_ages_are_looked_at_while_no_record_comes_and_a_stage_that_never_wrote_is_missed() -> None:
    one = fold(rule("down", on="progress", when="age_s > 60"))
    one.tick(0)
    one.expect("progress", "shop-drift-progress", 0, {"stage": "drift", "partition": 0})
    one.take("progress", [AlertInput("shop-scoring-progress", 0, 0, 0, {"stage": "scoring", "partition": 0})])
    one.tick(60_000)
    assert not told(one)
    one.take("progress", [AlertInput("shop-scoring-progress", 0, 1, 30_000, {"stage": "scoring", "partition": 0})])
    one.tick(61_000)
    assert [notification.labels["stage"] for notification in told(one)] == ["drift"]
    one.take("progress", [AlertInput("shop-drift-progress", 0, 0, 61_000, {"stage": "drift", "partition": 0})])
    one.tick(62_000)
    assert [notification.status for notification in told(one)] == ["firing", "resolved"]


def test_after_a_restart_ages_wait_until_what_was_written_meanwhile_is_read() -> None:
    rules = rule("down", on="progress", when="age_s > 60")
    one, restarted = fold(rules), fold(rules)
    one.tick(0)
    one.take("progress", [AlertInput("shop-drift-progress", 0, 0, 0, {"stage": "drift", "partition": 0})])
    restarted.load(one.snapshot())
    restarted.resume(10 * HOUR, 60_000)
    restarted.tick(10 * HOUR + 59_999)
    assert not told(restarted)
    restarted.tick(10 * HOUR + 60_000)
    assert len(told(restarted)) == 1


def test_an_age_that_was_pending_before_a_restart_waits_as_well() -> None:
    rules = rule("behind", **{"on": "progress", "when": "age_s > 60", "for": "1m"})
    one, restarted = fold(rules), fold(rules)
    one.tick(0)
    one.take("progress", [AlertInput("shop-drift-progress", 0, 0, 0, {"stage": "drift", "partition": 0})])
    one.tick(61_000)
    restarted.load(one.snapshot())
    restarted.resume(10 * HOUR, 60_000)
    restarted.take("progress", [AlertInput("shop-drift-progress", 0, 1, 10 * HOUR, {"stage": "drift", "partition": 0})])
    restarted.tick(10 * HOUR + 60_000)
    assert not told(restarted), "the stage has written while nobody looked"


def test_notifications_of_one_rule_go_out_together() -> None:
    one = fold(rule("drifting", **EVENT), group_wait_ms=10_000)
    one.take("drift", [drift(0, 0, model="a"), drift(1, 5_000, model="b"), drift(2, 9_999, model="c")])
    assert not told(one, "ops")
    assert len(told(one)) == len(told(one, "log")) == 3
    one.tick(10_000)
    messages = [message for message in one.outbox.values() if message.channel == "ops"]
    assert [notification.labels["model"] for notification in messages[0].notifications] == ["a", "b", "c"]
    assert len(messages) == 1


def test_a_muted_alert_goes_to_log_and_topic_only_and_is_told_when_the_mute_ends() -> None:
    mute = Mute.model_validate({"rules": "drift*", "until": "1970-01-01T01:00:00"})
    one = fold(rule("drifting", **EVENT), mutes=[mute])
    one.take("drift", [drift(0, 0)])
    assert [notification.muted for notification in told(one)] == [True]
    assert not told(one, "ops")
    one.tick(HOUR)
    assert [(notification.status, notification.muted) for notification in told(one, "ops")] == [("repeated", False)]


def test_a_channel_gets_what_is_severe_enough_and_what_the_rule_sends_it() -> None:
    rules = [rule("drifting", **EVENT), rule("other", **EVENT, severity="critical", channels=["mail"])]
    one = fold(*rules, channels={"ops": "warning", "mail": "critical"})
    one.take("drift", [drift(0, 0)])
    assert [notification.rule for notification in told(one, "ops")] == ["drifting"]
    assert [notification.rule for notification in told(one, "mail")] == ["other"]


def test_an_information_is_told_once_each_and_nothing_is_kept_of_it() -> None:
    one = fold(rule("info", **{**EVENT, "once": True}))
    one.take("drift", [drift(0, 0), drift(1, 0)])
    assert [notification.status for notification in told(one)] == ["information"] * 2
    assert len({notification.alert_id for notification in told(one)}) == 2
    one.tick(100 * HOUR)
    assert len(told(one)) == 2


def test_a_new_installation_tells_nobody_of_old_events() -> None:
    one = fold(rule("drifting", **EVENT))
    one.tick(100 * HOUR)
    one.take("drift", [drift(0, 98 * HOUR), drift(1, 100 * HOUR - HOUR // 2)])
    assert [notification.origin for notification in told(one)] == ["shop-drift:0:1"]


LEVELS_OF_INCIDENTS = {"on": "incidents", "when": "status <> 'resolved'"}


def incident(offset: int, time_ms: int, name: str, status: str = "open") -> AlertInput:
    return AlertInput("shop-incidents", 0, offset, time_ms, {"model": "fraud", "incident_id": name, "status": status, "severity": "alarm"})


def test_a_new_installation_tells_of_old_incidents_only_those_that_are_still_open() -> None:
    one = fold(rule("incident", **LEVELS_OF_INCIDENTS))
    one.tick(100 * HOUR)
    one.take("incidents", [incident(0, HOUR, "over"), incident(1, 2 * HOUR, "open"), incident(2, 3 * HOUR, "over", "resolved")])
    one.tick(100 * HOUR + 50_000)
    one.take("incidents", [incident(3, 4 * HOUR, "over too"), incident(4, 5 * HOUR, "over too", "resolved")])
    one.tick(100 * HOUR + 109_000)
    assert not told(one), "the topic may not be read to its end"
    one.take("incidents", [incident(5, 100 * HOUR + 109_000, "new")])
    one.tick(100 * HOUR + 110_000)
    assert [(notification.labels["incident_id"], notification.status) for notification in told(one)] == [("new", "firing"), ("open", "firing")]
    one.take("incidents", [incident(6, 100 * HOUR + 110_000, "open", "resolved")])
    assert told(one)[-1].status == "resolved"


@pytest.mark.parametrize(
    ("since", "expected"), [("beginning", ["a", "a", "b"]), ("1970-01-02T00:00:00Z", ["b"]), ("1970-01-01T00:30:00", ["a", "a", "b"]), ("open", [])]
)
def test_what_a_new_installation_tells_of_is_declared(since: str, expected: list[str]) -> None:
    policy = told_from(AlertPolicy("shop", OWNER, group_wait_ms=0), Alerts.model_validate({"since": since}))
    one = AlertFold([rule("incident", **LEVELS_OF_INCIDENTS)], policy)
    one.tick(100 * HOUR)
    one.take("incidents", [incident(0, HOUR, "a"), incident(1, 2 * HOUR, "a", "resolved"), incident(2, 30 * HOUR, "b")])
    assert [notification.labels["incident_id"] for notification in told(one)] == expected


def test_a_message_that_is_given_up_is_told_by_the_others_and_that_again_by_log_and_topic_only() -> None:
    one = fold(rule("drifting", **EVENT), channels={"ops": "info", "mail": "info"})
    one.take("drift", [drift(0, 0)])
    lost = next(message for message in one.outbox.values() if message.channel == "ops")
    one.undelivered(lost.message_id, "the receiver answered 410")
    reports = [message for message in one.outbox.values() if message.notifications[0].rule == UNDELIVERED]
    assert {message.channel for message in reports} == {"log", "topic", "mail"}
    assert "410" in reports[0].notifications[0].detail
    one.undelivered(next(message for message in reports if message.channel == "mail").message_id, "no mail either")
    again = [message for message in one.outbox.values() if "no mail either" in message.notifications[0].detail]
    assert {message.channel for message in again} == {"log", "topic"}


def test_alerts_beyond_what_is_kept_are_not_dropped_in_silence() -> None:
    one = fold(rule("each", **{**EVENT, "by": ["model"]}))
    one.take("drift", [drift(i, 0, model=f"m{i}") for i in range(1_003)])
    crowd = [notification for notification in told(one) if notification.rule == "too_many_alerts"]
    assert len(crowd) == 1
    assert len(told(one)) == 1_001


@pytest.mark.parametrize("replay", [False, True])
def test_every_application_has_default_rules_that_compile(replay: bool) -> None:
    application = load_application(FLIGHTS)
    names = {one.name for one in rules_of(application, replay=replay)}
    always = {"incident", "incident_alarm", "dead_letter_share", "promotion", "roll_back", "training_failed", "record_set_aside"}
    assert always | {"no_labels_late_arrival", "stale_model_late_arrival"} <= names
    assert ({"lag", "stage_down"} <= names) is not replay


def stages(rows: Sequence[dict[str, Any]]) -> list[AlertInput]:
    return [AlertInput("shop-ingestion-progress", 0, i, i * 60_000, {"stage": "ingestion", "partition": 0, **row}) for i, row in enumerate(rows)]


def test_the_defaults_tell_of_dead_letters_promotions_and_paused_streams() -> None:
    one = AlertFold(rules_of(load_application(FLIGHTS), replay=True), AlertPolicy("shop", OWNER, history_ms=None))
    row = {"records_read": 1000.0, "records_refused": 200.0, "refused_share": 0.2, "paused_topics": ""}
    one.take("progress", stages([row, row, {**row, "paused_topics": "shop-orders"}]))
    one.take("deployments", [AlertInput("shop-deployments", 0, 0, 200_000, {"model": "late_arrival", "event": "promoted", "version": "3"})])
    alerts = [(notification.rule, notification.summary) for notification in told(one)]
    assert alerts == [
        ("dead_letter_share", "More than a tenth of what ingestion reads in partition 0 becomes dead letters"),
        ("stream_paused", "ingestion reads nothing more of shop-orders until it is resumed by a command"),
        ("promotion", "Version 3 of late_arrival was promoted"),
    ]


def test_stages_that_stand_still_by_design_are_not_missed() -> None:
    one = AlertFold(rules_of(load_application(FLIGHTS), replay=False), AlertPolicy("shop", OWNER))
    one.tick(0)
    for stage in STAGES:
        one.expect("progress", f"shop-{stage}-progress", 0, {"stage": stage, "partition": 0})
    one.tick(301_000)
    missed = {notification.labels["stage"] for notification in told(one) if notification.rule == "stage_down"}
    assert missed == set(STAGES) - {"archive", "retraining"}


def incidents(rows: Sequence[tuple[str, str, str]]) -> list[AlertInput]:
    texts = {
        "model": "late_arrival",
        "incident_id": "i1",
        "likely_cause": "Column orders.weight comes empty.",
        "action": "training 3fd2a9aa asked for",
    }
    return [
        AlertInput("shop-incidents", 0, i, i * 3_600_000, {**texts, "status": status, "severity": severity, "opened_as": opened_as})
        for i, (status, severity, opened_as) in enumerate(rows)
    ]


def test_an_incident_is_told_when_it_opens_when_it_is_worse_and_when_it_is_over() -> None:
    one = AlertFold(rules_of(load_application(FLIGHTS), replay=True), AlertPolicy("shop", OWNER, history_ms=None))
    course = [("open", "warning"), ("ongoing", "warning"), ("ongoing", "alarm"), ("ongoing", "alarm"), ("resolved", "alarm")]
    one.take("incidents", incidents([(status, severity, "warning") for status, severity in course]))
    alerts = [(notification.rule, notification.status) for notification in told(one)]
    assert alerts == [("incident", "firing"), ("incident_alarm", "firing"), ("incident", "resolved"), ("incident_alarm", "resolved")]
    assert {notification.summary for notification in told(one)} == {
        "late_arrival: Column orders.weight comes empty. Done: training 3fd2a9aa asked for."
    }
    assert {notification.severity for notification in told(one) if notification.rule == "incident_alarm"} == {"critical"}


def test_an_incident_that_opens_as_an_alarm_is_told_once() -> None:
    one = AlertFold(rules_of(load_application(FLIGHTS), replay=True), AlertPolicy("shop", OWNER, history_ms=None))
    one.take("incidents", incidents([("open", "alarm", "alarm"), ("resolved", "alarm", "alarm")]))
    assert [(notification.rule, notification.status) for notification in told(one)] == [("incident_alarm", "firing"), ("incident_alarm", "resolved")]


def test_an_alert_is_on_one_clock_a_replay_that_goes_on_live_begins_anew() -> None:
    """The demo: a year of 2013 on journal time, then a stretch of today. What lasted there must not have lasted for thirteen years here."""
    rules = (
        rule("bad", **{**LEVEL, "for": "2d"}),
        rule("drifting", **EVENT),
        rule("old", on="deployments", when="age_s > 3600"),
    )
    year, today = 1_370_000_000_000, 1_790_000_000_000
    replay = fold(*rules, clock="replay", history_ms=None, group_wait_ms=HOUR, mutes=())
    replay.order([mute_command(0, "for an hour", HOUR), mute_command(1, "for good", 0)], at_clock=True)
    replay.take("health", [health(0, year, 0.5)])
    replay.take("drift", [drift(0, year)])
    replay.take("deployments", [AlertInput("shop-deployments", 0, 0, year, {"model": "fraud", "event": "promoted", "version": "1"})])
    said = {message.message_id for message in replay.outbox.values()}

    live = fold(*rules, clock="live")
    live.load(replay.snapshot())
    assert said <= live.outbox.keys(), "what was to be sent is sent"
    before = len(told(live))
    live.tick(today)
    live.tick(today + HOUR)
    assert len(told(live)) == before and not live.firing, "nothing of 2013 fires, repeats or is over today"
    live.take("health", [health(0, year, 0.5)])
    live.take("drift", [drift(0, year)])
    assert len(told(live)) == before, "nor is it read again"
    live.take("drift", [drift(1, today + HOUR)])
    assert {(one.at_ms, one.since_ms) for one in told(live)[before:]} == {(today + HOUR, today + HOUR)}
    again = fold(*rules, clock="live")
    again.load(live.snapshot())
    assert again.snapshot() == live.snapshot() and [one.since_ms for one in again.firing] == [today + HOUR]


def test_a_mute_of_the_other_clock_stays_only_where_it_has_no_end() -> None:
    drifting, live = rule("drifting", **EVENT), 1_790_000_000_000
    for duration, is_muted in ((30 * 365 * 24 * HOUR, False), (0, True)):
        replay = fold(drifting, clock="replay", history_ms=None)
        replay.take("drift", [drift(0, live - 365 * 24 * HOUR, "warning")])
        replay.order([mute_command(0, "known", duration)], at_clock=True)
        one = fold(drifting, clock="live")
        one.load(replay.snapshot())
        one.take("drift", [drift(1, live)])
        assert told(one)[-1].muted is is_muted
