"""What a run's records add up to: no fault is seen in a data set that has ended."""

from typing import Any

from tidemill.runs.watch import RunState


def incident(number: int, root: str, opened: int, change: str = "opened", severity: str = "alarm") -> dict[str, Any]:
    return {"incident_id": f"i{number}", "root": root, "opened": opened, "change": change, "severity": severity, "status": "open"}


def finding(kind: str, at: int) -> dict[str, Any]:
    return {"kind": kind, "journal_time": at}


def test_that_no_requests_come_after_the_last_one_is_no_incident() -> None:
    seen = RunState(
        incidents=[
            incident(1, "stream:orders", 40, severity="warning"),
            incident(1, "stream:orders", 40, "worse"),
            incident(2, "stream:orders", 51),
            incident(3, "model:late", 51),
        ],
        drift=[finding("volume", 40), finding("volume", 51), finding("labels", 60), finding("loss", 51)],
    )
    told = seen.happenings()
    assert (told["drift_events"], told["incidents"], told["incident_alarms"]) == (4, 3, 3)
    seen.requests_end_ms = 50
    assert [one["incident_id"] for one in seen.newest_incidents()] == ["i1", "i3"]
    told = seen.happenings()
    assert (told["drift_events"], told["incidents"], told["incident_alarms"]) == (2, 2, 2)
