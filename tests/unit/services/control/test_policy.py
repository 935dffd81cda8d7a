"""Requests for retraining: once per cause, within cool-down and budget, on schedule, and as operators say."""

import json
from typing import Any

import pytest

from tidemill.services.control.domain.policy import Policy, RetrainingDecisions

DAY = 86_400_000


def policy(cool_down: int = 3 * DAY, schedule: int | None = None, budget: int = 3, cpu_ms: int | None = None) -> RetrainingDecisions:
    return RetrainingDecisions([Policy("m", cool_down, schedule, budget, cpu_ms)])


def finding(day: float, kind: str = "loss", severity: str = "alarm", name: str = "") -> dict[str, Any]:
    return {
        "drift_id": f"{kind}{day}{name}", "model": "m", "kind": kind, "severity": severity, "detector": "adwin", "detail": "worse",
        "journal_time": int(day * DAY), "journal_partition": 0, "journal_offset": 5,
    }  # fmt: skip


def verdicts(decisions: list[dict[str, Any]]) -> list[str]:
    return [decision["verdict"] for decision in decisions]


def test_an_alarm_asks_for_a_training_with_its_cause() -> None:
    (asked,) = policy().finding(finding(1))
    assert (asked["action"], asked["verdict"], asked["trigger"], asked["journal_time"], asked["journal_offset"]) == (
        "train",
        "requested",
        "drift",
        DAY,
        5,
    )
    assert asked["cause"] == "loss1" and "worse" in asked["reason"]


@pytest.mark.parametrize(("kind", "severity"), [("feature", "alarm"), ("missing", "alarm"), ("range", "alarm"), ("loss", "warning")])
def test_features_that_drift_and_warnings_ask_for_nothing(kind: str, severity: str) -> None:
    assert policy().finding(finding(1, kind, severity)) == []


def test_the_first_labels_ask_although_they_are_no_alarm() -> None:
    (asked,) = policy().finding(finding(1, "bootstrap", "info"))
    assert (asked["verdict"], asked["trigger"]) == ("requested", "bootstrap")


def test_further_labels_ask_within_cool_down() -> None:
    watched = policy()
    said = [watched.finding(finding(day, "label_volume", "info"))[0] for day in (1, 2)]
    assert [(one["trigger"], one["verdict"]) for one in said] == [("labels", "requested"), ("labels", "skipped")]


def test_a_class_with_labels_enough_asks_within_cool_down_and_budget() -> None:
    watched = policy(cool_down=2 * DAY, budget=2)
    said = [watched.finding(finding(day, "new_class", "warning"))[0] for day in (1, 2, 3, 6)]
    assert [(one["trigger"], one["verdict"], one["cause"]) for one in said] == [
        ("new_class", "requested", "new_class1"), ("new_class", "skipped", "new_class2"),
        ("new_class", "requested", "new_class3"), ("new_class", "skipped", "new_class6"),
    ]  # fmt: skip
    assert said[1]["reason"].startswith("cool-down: 24 h") and said[3]["reason"].startswith("budget: 2 requests")
    assert policy().finding(finding(1, "unknown_class", "alarm")) == []


def test_cool_down_counts_from_the_last_request_not_from_the_last_alarm() -> None:
    watched = policy()
    days = (1, 2, 3.9, 4, 5, 6.9, 7)
    assert [verdicts(watched.finding(finding(day)))[0] for day in days] == [
        "requested", "skipped", "skipped", "requested", "skipped", "skipped", "requested",
    ]  # fmt: skip


def test_the_budget_is_one_of_any_thirty_days() -> None:
    watched = policy(cool_down=0, budget=2)
    assert [verdicts(watched.finding(finding(day)))[0] for day in (1, 2, 3, 30.9, 31.5, 31.6)] == [
        "requested", "requested", "skipped", "skipped", "requested", "skipped",
    ]  # fmt: skip


def asked_at(decisions: list[dict[str, Any]]) -> list[tuple[str, str, str, float]]:
    return [(one["verdict"], one["trigger"], one["cause"], one["journal_time"] / DAY) for one in decisions]


@pytest.mark.parametrize("restart", [False, True])
def test_an_alarm_in_the_cool_down_is_followed_at_its_end(restart: bool) -> None:
    watched = policy(cool_down=5 * DAY, schedule=10 * DAY, budget=9)
    watched.finding(finding(1, "bootstrap", "info"))
    said = watched.finding(finding(2)) + watched.finding(finding(3))
    assert verdicts(said) == ["skipped", "skipped"] and watched.advance(6 * DAY - 1) == []
    told = "put off until 1970-01-07T00:00:00.000Z (adwin: worse)"
    assert [one["reason"].split("; ")[1] for one in said] == [told, told], "when it is followed, in words"
    if restart:
        state = json.loads(json.dumps(watched.snapshot()))
        watched = policy(cool_down=5 * DAY, schedule=10 * DAY, budget=9)
        watched.load(state)
    (asked,) = watched.advance(8 * DAY)
    assert asked_at([asked]) == [("requested", "drift", "loss2", 6)]
    assert asked["reason"] == "put off: cool-down: 24 h after the last request (adwin: worse)"
    assert asked["decision_id"] not in {one["decision_id"] for one in said}
    assert asked_at(watched.advance(30 * DAY)) == [("requested", "schedule", str(day * DAY), day) for day in (16, 26)], (
        "once, and the schedule counts on"
    )


@pytest.mark.parametrize(("causes", "left"), [({"other"}, 1), ({"loss2", "other"}, 0), ({"loss3"}, 1)])
def test_what_was_put_off_is_forgotten_where_its_incident_is_over_by_then(causes: set[str], left: int) -> None:
    watched = policy(cool_down=5 * DAY)
    for day in (1, 2, 3):
        watched.finding(finding(day))
    watched.resolved("m", causes)
    watched.resolved("another model", causes)
    assert len(watched.advance(40 * DAY)) == left


def test_what_was_put_off_is_forgotten_where_another_training_is_asked_for_first() -> None:
    watched = policy(cool_down=5 * DAY)
    watched.finding(finding(1))
    watched.finding(finding(2))
    watched.command({"command_id": "a", "model": "m", "command": "retrain", "reason": "now"}, 3 * DAY)
    assert watched.advance(40 * DAY) == []


def test_an_alarm_beyond_a_budget_is_followed_when_it_has_room() -> None:
    watched = policy(cool_down=DAY, budget=2)
    for day in (1, 4, 5):
        watched.finding(finding(day))
    assert asked_at(watched.advance(60 * DAY)) == [("requested", "drift", "loss5", 31)]
    costly = policy(cool_down=DAY, budget=9, cpu_ms=60_000)
    costly.finding(finding(1))
    costly.trained(took(1.0, 61), DAY)
    costly.finding(finding(1.5))
    assert asked_at(costly.advance(60 * DAY)) == [("requested", "drift", "loss1.5", 2)]


def test_an_operators_pause_holds_what_was_put_off_and_puts_nothing_off() -> None:
    pause = {"command_id": "p", "model": "m", "command": "pause", "reason": "sale"}
    watched = policy(cool_down=2 * DAY)
    watched.finding(finding(1))
    watched.finding(finding(2))
    watched.command(pause, int(2.5 * DAY))
    assert watched.advance(9 * DAY) == []
    watched.command(pause | {"command_id": "r", "command": "resume"}, 10 * DAY)
    assert asked_at(watched.advance(20 * DAY)) == [("requested", "drift", "loss2", 10)]
    watched.command(pause | {"command_id": "q"}, 21 * DAY)
    assert [one["reason"] for one in watched.finding(finding(22))] == ["paused (adwin: worse)"]
    watched.command(pause | {"command_id": "s", "command": "resume"}, 23 * DAY)
    assert watched.advance(90 * DAY) == []


def refused(asked: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The account of a training that had nothing to learn."""
    places = {name: asked[name] for name in ("model", "decision_id", "journal_time", "trigger")}
    return {**places, "event": "refused", "reason": "labels look flipped", "details": {"cause": asked["cause"]}, "figures": {}, **more}


def test_an_alarm_whose_training_was_refused_asks_again_after_the_cool_down_until_its_incident_is_over() -> None:
    """The world has begun to change, or labels are flipped: nobody could tell yet, and no further alarm comes while it stays so."""
    watched, ids = policy(cool_down=3 * DAY), []
    (asked,) = watched.finding(finding(1))
    for day in (4, 7):
        ids.append(asked["decision_id"])
        watched.trained(refused(asked), int((day - 2) * DAY))
        state = json.loads(json.dumps(watched.snapshot()))
        watched = policy(cool_down=3 * DAY)
        watched.load(state)
        assert watched.advance(day * DAY - 1) == []
        (asked,) = watched.advance(day * DAY)
        assert asked_at([asked]) == [("requested", "drift", "loss1", day)] and asked["reason"] == "put off: refused: labels look flipped"
    assert len({*ids, asked["decision_id"]}) == 3
    watched.trained(refused(asked), 7 * DAY)
    watched.resolved("m", {"loss1"})
    assert watched.advance(90 * DAY) == []


def test_a_refused_training_asks_again_a_day_later_at_least_and_never_in_the_past() -> None:
    watched = policy(cool_down=0, budget=9)
    (asked,) = watched.finding(finding(1))
    watched.trained(refused(asked), DAY)
    assert asked_at(watched.advance(90 * DAY)) == [("requested", "drift", "loss1", 2)]
    late = policy(cool_down=3 * DAY)
    (asked,) = late.finding(finding(1))
    late.trained(refused(asked), 9 * DAY)
    assert asked_at(late.advance(90 * DAY)) == [("requested", "drift", "loss1", 9)]


@pytest.mark.parametrize("more", [{"event": "failed"}, {"event": "finished"}, {"trigger": "schedule"}, {"model": "another"}, {"journal_time": 5}])
def test_only_an_alarms_last_training_that_was_refused_asks_again(more: dict[str, Any]) -> None:
    watched = policy(cool_down=3 * DAY)
    (asked,) = watched.finding(finding(1))
    watched.trained(refused(asked, **more), DAY)
    assert watched.advance(90 * DAY) == []


def test_a_training_that_was_refused_while_paused_asks_no_more() -> None:
    watched = policy(cool_down=3 * DAY)
    (asked,) = watched.finding(finding(1))
    watched.command({"command_id": "p", "model": "m", "command": "pause", "reason": "sale"}, DAY)
    watched.trained(refused(asked), DAY)
    watched.command({"command_id": "r", "model": "m", "command": "resume", "reason": "over"}, 2 * DAY)
    assert watched.advance(90 * DAY) == []


def took(day: float, seconds: float, event: str = "finished", name: str = "") -> dict[str, Any]:
    return {"model": "m", "decision_id": f"t{day}{name}", "event": event, "journal_time": int(day * DAY), "figures": {"cpu_s": seconds}}


def test_what_the_trainings_of_the_last_day_took_is_a_budget_of_its_own() -> None:
    watched = policy(cool_down=0, budget=100, cpu_ms=60_000)
    for account in (took(1.0, 40), took(1.0, 40), took(1.1, 19.5, "failed"), took(1.1, 99, "step", "s"), took(1.1, 0.0, name="unmeasured")):
        watched.trained(account, DAY)
    watched.trained(took(1.1, 500) | {"model": "another"}, DAY)
    assert verdicts(watched.finding(finding(1.2))) == ["requested"], "59.5 s: said twice it counts once, and only what has ended counts"
    watched.trained(took(1.2, 0.5), DAY)
    state = json.loads(json.dumps(watched.snapshot()))
    watched = policy(cool_down=0, budget=100, cpu_ms=60_000)
    watched.load(state)
    (skipped,) = watched.finding(finding(1.3))
    assert skipped["verdict"] == "skipped"
    assert skipped["reason"].startswith("budget: trainings of the last day took 60.0 s of processor time, 60 s are allowed")
    (commanded,) = watched.command({"command_id": "a", "model": "m", "command": "retrain", "reason": "now"}, int(1.4 * DAY))
    assert commanded["verdict"] == "requested", "an operator overrides it"
    watched.trained(took(1.4, 30), DAY)
    assert [verdicts(watched.finding(finding(day))) for day in (1.9, 2.05, 2.15)] == [["skipped"], ["requested"], ["requested"]]
    unlimited = policy(cool_down=0, budget=100)
    unlimited.trained(took(1.0, 1e9), DAY)
    assert verdicts(unlimited.finding(finding(1.1))) == ["requested"]


def test_a_state_of_before_trainings_were_measured_is_read() -> None:
    watched = policy(cpu_ms=1)
    state = policy().snapshot()
    del state["m"]["spent"]
    watched.load(state)
    assert verdicts(watched.finding(finding(1))) == ["requested"]


def test_the_schedule_runs_from_the_last_request_on_journal_time() -> None:
    watched = policy(schedule=10 * DAY)
    assert watched.advance(100 * DAY) == [], "nothing is scheduled before the first request"
    watched.finding(finding(100))
    assert watched.advance(110 * DAY - 1) == []
    due = watched.advance(131 * DAY)
    assert [(decision["trigger"], decision["journal_time"] // DAY) for decision in due] == [("schedule", 110), ("schedule", 120), ("schedule", 130)]


def test_an_operator_overrides_cool_down_and_can_pause() -> None:
    watched = policy()
    watched.finding(finding(1))

    def say(command: str, name: str) -> list[dict[str, Any]]:
        return watched.command({"command_id": name, "model": "m", "command": command, "reason": "because"}, 2 * DAY)

    assert verdicts(say("retrain", "a")) == ["requested"]
    assert verdicts(say("pause", "b")) == ["obeyed"]
    assert "paused" in watched.finding(finding(50))[0]["reason"]
    assert verdicts(say("resume", "c")) == ["obeyed"]
    assert verdicts(watched.finding(finding(51))) == ["requested"]
    assert [(one["action"], one["verdict"]) for one in say("roll_back", "d")] == [("roll_back", "requested")]
    (dance,) = say("dance", "e")
    assert (dance["action"], dance["verdict"]) == ("unknown", "refused") and "dance: expected retrain" in dance["reason"]
    (stranger,) = watched.command({"command_id": "f", "model": "stranger", "command": "pause", "reason": ""}, 0)
    assert (stranger["verdict"], stranger["model"]) == ("refused", "stranger") and "one of the models m" in stranger["reason"]


@pytest.mark.parametrize("what", ["retrain", "roll_back", "pause"])
def test_a_command_sent_again_is_followed_once(what: str) -> None:
    watched = policy()
    command = {"command_id": "a", "model": "m", "command": what, "reason": "because"}
    (first,) = watched.command(command, DAY)
    state = json.loads(json.dumps(watched.snapshot()))
    watched = policy()
    watched.load(state)
    (second,) = watched.command(command, 2 * DAY)
    assert second["decision_id"] == first["decision_id"] and second["verdict"] == "refused" and "followed before" in second["reason"]
    assert watched.snapshot() == state
    assert "command_id" in watched.command({**command, "command_id": ""}, 2 * DAY)[0]["reason"]


def test_remembered_commands_do_not_grow_without_bound() -> None:
    watched = policy()
    for number in range(10_050):
        watched.command({"command_id": str(number), "model": "m", "command": "resume", "reason": "", "issued_at": number}, number)
    assert len(watched.snapshot()["m"]["commands"]) == 10_000
    watched.command({"command_id": "later", "model": "m", "command": "resume", "reason": "", "issued_at": DAY}, 31 * DAY)
    assert list(watched.snapshot()["m"]["commands"]) == ["later"]


def test_a_copy_of_a_command_that_is_forgotten_is_refused_by_its_age() -> None:
    watched = policy()
    old = {"command_id": "old", "model": "m", "command": "roll_back", "reason": "", "issued_at": 1_000}
    assert verdicts(watched.command(old, DAY)) == ["requested"]
    assert verdicts(watched.command({**old, "command_id": "new", "issued_at": 2_000}, 32 * DAY)) == ["requested"]
    restarted = policy()
    restarted.load(json.loads(json.dumps(watched.snapshot())))
    assert "old" not in restarted.snapshot()["m"]["commands"]
    (copy,) = restarted.command(old, 33 * DAY)
    assert copy["verdict"] == "refused" and "newer than those forgotten" in copy["reason"]
    assert verdicts(restarted.command({**old, "command_id": "newer", "issued_at": 1_001}, 33 * DAY)) == ["requested"]


def test_one_command_of_a_host_whose_clock_ran_ahead_holds_back_none_that_come_later() -> None:
    watched = policy()
    ahead = {"command_id": "ahead", "model": "m", "command": "resume", "reason": "", "issued_at": 10_000 * DAY}
    assert verdicts(watched.command(ahead, DAY)) == ["obeyed"]
    for day in (2, 40, 80):
        own = {"command_id": f"day {day}", "model": "m", "command": "resume", "reason": "", "issued_at": day * DAY}
        assert verdicts(watched.command(own, day * DAY)) == ["obeyed"]
        assert verdicts(watched.command(own, 85 * DAY)) == ["refused"], "it is known by its id or by its time"
    assert verdicts(watched.command(ahead, 90 * DAY)) == ["refused"]


def test_state_from_before_commands_were_signed_is_taken_up() -> None:
    watched = policy()
    watched.command({"command_id": "a", "model": "m", "command": "pause", "reason": ""}, DAY)
    state = json.loads(json.dumps(watched.snapshot()))
    del state["m"]["forgotten"]
    state["m"]["commands"] = {"a": DAY}
    watched = policy()
    watched.load(state)
    assert "followed before" in watched.command({"command_id": "a", "model": "m", "command": "pause", "reason": ""}, DAY)[0]["reason"]


def test_a_schedule_keeps_within_pause_and_budget_and_says_so() -> None:
    watched = policy(cool_down=0, schedule=10 * DAY, budget=2)
    watched.finding(finding(0))
    watched.command({"command_id": "p", "model": "m", "command": "pause", "reason": ""}, DAY)
    skipped = watched.advance(35 * DAY)
    assert [(record["verdict"], record["journal_time"] // DAY) for record in skipped] == [("skipped", 10), ("skipped", 20), ("skipped", 30)]
    watched.command({"command_id": "r", "model": "m", "command": "resume", "reason": ""}, 35 * DAY)
    assert [record["journal_time"] // DAY for record in watched.advance(45 * DAY)] == [40], "nothing is caught up"
    watched.finding(finding(46))
    assert "budget" in watched.advance(56 * DAY)[0]["reason"]


def test_the_same_findings_give_the_same_decisions_also_over_a_restart() -> None:
    def play(restart_at: int | None) -> list[dict[str, Any]]:
        watched, said = policy(schedule=9 * DAY), []
        for i in range(60):
            if i == restart_at:
                state = json.loads(json.dumps(watched.snapshot()))
                watched = policy(schedule=9 * DAY)
                watched.load(state)
            said += watched.advance(i * DAY - 1)
            if i % 7 in (0, 2):
                said += watched.finding(finding(i))
        return said

    expected = play(None)
    assert len({decision["decision_id"] for decision in expected}) == len(expected)
    assert {"drift", "schedule"} == {decision["trigger"] for decision in expected}
    assert all(play(i) == expected for i in range(60))


def test_an_endless_command_id_is_refused_and_not_remembered() -> None:
    control = policy()
    order = {"model": "m", "command": "retrain", "reason": "r", "command_id": "x" * 1_000_000, "issued_at": 5}
    said = control.command(order, 5 * DAY)
    assert [one["verdict"] for one in said] == ["refused"] and "at most 200 characters, got 1000000" in said[0]["reason"]
    assert len(str(control.snapshot())) < 10_000


def test_a_calendar_asks_at_its_instants_from_the_first_request_on_whatever_the_steps_and_after_a_restart() -> None:
    """Day 4 of the epoch is a Monday; Mondays at three, in UTC."""
    monday, hour = 4, 3_600_000

    def asked(steps: list[int], restart: bool = False) -> list[tuple[str, str, int]]:
        watched = RetrainingDecisions([Policy("m", 3 * DAY, "0 3 * * 1", 10)])
        assert watched.advance(2 * DAY) == [], "nothing is scheduled before the first request"
        watched.finding(finding(3, "bootstrap"))
        said = []
        for step in steps:
            said += watched.advance(step)
            if restart:
                state = json.loads(json.dumps(watched.snapshot()))
                watched = RetrainingDecisions([Policy("m", 3 * DAY, "0 3 * * 1", 10)])
                watched.load(state)
        return [(one["verdict"], one["decision_id"], one["journal_time"]) for one in said]

    whole = asked([30 * DAY])
    assert [time for _, _, time in whole] == [(monday + 7 * week) * DAY + 3 * hour for week in range(4)]
    assert [verdict for verdict, _, _ in whole] == ["skipped", "requested", "requested", "requested"], "the first falls into the cool-down"
    assert asked(list(range(3 * DAY, 31 * DAY, DAY // 2))) == asked([5 * DAY, 12 * DAY, 30 * DAY], restart=True) == whole
