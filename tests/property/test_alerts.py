"""Alerts: any batching gives the same as one by one, a restart anywhere the same as none, and records that come again change nothing."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tidemill.services.alerts.domain.fold import AlertFold
from tidemill.services.alerts.domain.notification import Message
from tidemill.services.alerts.domain.policy import AlertPolicy
from tidemill.services.alerts.domain.rows import AlertInput
from tidemill.shared.application.alert_rules import compile_rule
from tidemill.shared.application.alerts import AlertRule, AlertSource, Mute

MINUTE = 60_000
RULES = [
    compile_rule(name, AlertRule.model_validate(keys), "team@example.org")
    for name, keys in {
        "drifting": {"on": "drift", "when": "severity = 'alarm'", "repeat": "3m", "resolve_after": "8m"},
        "each": {"on": "drift", "where": "model = 'b'", "when": "statistic > 0.5", "once": True, "severity": "critical"},
        "poor": {"on": "health", "when": "auc < 0.6", "for": "2m", "repeat": "4m", "severity": "critical"},
        "behind": {"on": "progress", "when": "age_s > 120", "for": "1m", "repeat": "5m"},
    }.items()
]
POLICY = AlertPolicy(
    "shop",
    "team@example.org",
    {"ops": "info", "mail": "critical"},
    [Mute.model_validate({"rules": ["poor"], "from": "1970-01-01T00:10:00", "until": "1970-01-01T00:14:00"})],
    group_wait_ms=90_000,
)
Step = tuple[AlertSource | None, int, dict[str, Any]]


@st.composite
def steps(draw: st.DrawFn) -> list[Step]:
    """Records and ticks (no source) of half an hour; the times of records are a little out of order."""
    made: list[Step] = []
    clock = 0
    for _ in range(draw(st.integers(1, 40))):
        clock += draw(st.sampled_from([0, 500, 20_000, MINUTE, 3 * MINUTE]))
        source: AlertSource | None = draw(st.sampled_from(["drift", "health", "progress", None]))
        model = draw(st.sampled_from(["a", "b"]))
        columns: dict[str, dict[str, Any]] = {
            "drift": {
                "model": model,
                "kind": "loss",
                "severity": draw(st.sampled_from(["alarm", "warning"])),
                "statistic": draw(st.sampled_from([0.4, 0.6])),
            },
            "health": {"model": model, "auc": draw(st.sampled_from([0.5, 0.7, None]))},
            "progress": {"stage": model, "partition": 0},
        }
        fields = columns.get(source or "", {})
        made.append((source, max(0, clock - draw(st.sampled_from([0, 0, 40_000]))), fields))
    return made


def started() -> AlertFold:
    return AlertFold(RULES, POLICY)


def items(given_steps: list[Step]) -> list[tuple[AlertSource | None, int, AlertInput | None]]:
    offsets: dict[str, int] = {}
    drawn: list[tuple[AlertSource | None, int, AlertInput | None]] = []
    for source, time_ms, fields in given_steps:
        record = None
        if source is not None:
            offsets[source] = offsets.get(source, -1) + 1
            record = AlertInput(f"shop-{source}", 0, offsets[source], time_ms, fields)
        drawn.append((source, time_ms, record))
    return drawn


def one_by_one(given_steps: list[Step]) -> AlertFold:
    fold = started()
    for source, time_ms, record in items(given_steps):
        if source is None or record is None:
            fold.tick(time_ms)
        else:
            fold.take(source, [record])
    return fold


def messages(fold: AlertFold) -> list[Message]:
    return list(fold.outbox.values())


@given(steps(), st.lists(st.integers(1, 7), min_size=1, max_size=8))
def test_any_batching_is_one_by_one(given_steps: list[Step], sizes: list[int]) -> None:
    fold, waiting, turn = started(), list(items(given_steps)), 0
    while waiting:
        source, time_ms, record = waiting.pop(0)
        if source is None or record is None:
            fold.tick(time_ms)
            continue
        batch, most = [record], sizes[turn % len(sizes)]
        turn += 1
        while waiting and waiting[0][0] == source and len(batch) < most:
            following = waiting.pop(0)[2]
            assert following is not None
            batch.append(following)
        fold.take(source, batch)
    expected = one_by_one(given_steps)
    assert messages(fold) == messages(expected)
    assert fold.snapshot() == expected.snapshot()


@given(steps(), st.sets(st.integers(0, 39)), st.integers(0, 5))
def test_a_restart_is_no_restart_and_what_comes_again_changes_nothing(given_steps: list[Step], restarts: set[int], again: int) -> None:
    fold, given_items = started(), items(given_steps)
    for i, (source, time_ms, record) in enumerate(given_items):
        if source is None or record is None:
            fold.tick(time_ms)
        else:
            fold.take(source, [record])
        if i in restarts:
            state, fold = fold.snapshot(), started()
            fold.load(state)
            assert fold.snapshot() == state
            for earlier, _, seen in given_items[max(0, i - again) : i + 1]:
                if earlier is not None and seen is not None:
                    fold.take(earlier, [seen])
            assert fold.snapshot() == state
    expected = one_by_one(given_steps)
    assert messages(fold) == messages(expected)
    assert fold.snapshot() == expected.snapshot()


@given(steps())
def test_what_is_told_of_an_alert_is_numbered_begins_with_firing_and_ends_with_resolved(given_steps: list[Step]) -> None:
    """Held against a count of our own: every alert's notifications, in their order, on every channel that is always there."""
    fold = one_by_one(given_steps)
    by_alert: dict[str, list[tuple[int, str]]] = {}
    for message in messages(fold):
        if message.channel == "topic":
            for notification in message.notifications:
                by_alert.setdefault(notification.alert_id, []).append((notification.number, notification.status))
    for told in by_alert.values():
        assert [number for number, _ in told] == list(range(1, len(told) + 1))
        states = [status for _, status in told]
        assert states == ["information"] or (
            states[0] == "firing" and set(states[1:-1]) <= {"repeated"} and states[-1] in ("firing", "repeated", "resolved")
        )
        assert states.count("resolved") <= 1
    log = [message.notifications for message in messages(fold) if message.channel == "log"]
    assert log == [message.notifications for message in messages(fold) if message.channel == "topic"]
