"""When versions were tried and served, as the registry shows it: a plain fold over events."""

from datetime import UTC, datetime
from typing import Any

from tidemill.services.retraining.domain.service_times import ServiceTimes
from tidemill.shared.models.deployments import Lifecycle

HOUR_MS = 3_600_000


def at(hour: int) -> str:
    return datetime.fromtimestamp(hour * 3600, UTC).isoformat()


def times_after(*events: tuple[str, str]) -> ServiceTimes:
    """Each event an hour after the one before it."""
    times, lifecycle = ServiceTimes(), Lifecycle()
    for number, (name, version) in enumerate(events):
        event: dict[str, Any] = {
            "model": "m", "event": name, "version": version, "sequence": number, "parent": number - 1, "journal_time": number * HOUR_MS,
            "artifact_sha256": version, "threshold": 0.5, "share": 0.1, "details": {}, "reason": "",
        }  # fmt: skip
        after = lifecycle.apply(event)
        times, lifecycle = times.apply(event, lifecycle, after), after
    return times


FIRST = (("registered", "v1"), ("promoted", "v1"), ("registered", "v2"))


def test_both_versions_of_an_ab_test_say_when_it_ran_against_whom_and_what_ended_it() -> None:
    won = times_after(*FIRST, ("shadow", "v2"), ("canary", "v2"), ("ab", "v2"), ("promoted", "v2"))
    test = {"ab_at": at(5), "ab_ended_at": at(6), "ab_ended": "v2 promoted"}
    assert won.champion == "v2" and won.versions == {
        "v1": {"promoted_at": at(1), **test, "ab_against": "v2", "retired_at": at(6)},
        "v2": {"shadow_at": at(3), "canary_at": at(4), **test, "ab_against": "v1", "promoted_at": at(6)},
    }
    lost = times_after(*FIRST, ("ab", "v2"), ("stepped_back", "v2"))
    assert lost.champion == "v1" and lost.versions["v2"]["stepped_back_at"] == at(4) and lost.versions["v2"]["ab_ended"] == "v2 stepped_back"
    assert lost.versions["v1"]["ab_ended_at"] == at(4) and "retired_at" not in lost.versions["v1"]


def test_what_is_only_registered_or_refused_changes_nothing() -> None:
    before = times_after(*FIRST)
    assert times_after(*FIRST, ("gate_refused", "v2"), ("command_refused", "v1")) == before
    assert before.versions == {"v1": {"promoted_at": at(1)}} and before.champion == "v1"
