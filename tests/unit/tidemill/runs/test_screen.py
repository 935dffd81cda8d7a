"""The live screen says what is tried beside which champion, and what the first prediction waits for."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tidemill.runs.screen import Screen, put_off_text, tried_text
from tidemill.runs.watch import RunState
from tidemill.services.control.domain.policy import Policy, RetrainingDecisions
from tidemill.shared.runner.progress import Progress

DAY = 86_400_000


def event(sequence: int, name: str, version: str, day: int, **more: Any) -> dict[str, Any]:
    return {
        "sequence": sequence, "parent": sequence - 1, "model": "fraud", "event": name, "version": version, "artifact_sha256": "a", "threshold": 0.5,
        "share": 0.3, "reason": "", "operator": "", "journal_time": day * DAY, **more,
    }  # fmt: skip


def test_what_is_tried_is_shown_with_its_stage_share_and_day_as_long_as_it_is() -> None:
    events = [event(0, "promoted", "v1", 0), event(1, "shadow", "v2", 3), event(2, "canary", "v2", 10), event(3, "ab", "v2", 13)]
    assert tried_text(RunState(deployments=events[:1])) == ""
    assert tried_text(RunState(deployments=events[:2])) == "fraud: v2 in shadow beside v1, since 1970-01-04"
    assert tried_text(RunState(deployments=events[:3])) == "fraud: v2 as a canary with 30% of the requests beside v1, since 1970-01-11"
    assert tried_text(RunState(deployments=events)) == "fraud: v2 in an A/B test with 30% of the requests beside v1, since 1970-01-14"
    assert tried_text(RunState(deployments=[*events, event(4, "promoted", "v2", 20)])) == ""


def test_a_run_without_a_prediction_says_what_it_waits_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    shown = io.StringIO()
    screen = Screen(2_000, Console(file=shown, width=400))
    for name in ("walk.nbi", "read_rows.nbi", "read_rows.1.nbc"):
        (tmp_path / name).touch()
    begun = {("ingestion", 0): Progress("ingestion", 0, covered_time=DAY), ("features", 0): Progress("features", 0)}
    screen.update(DAY, 1_258, RunState(progress=begun))
    line = shown.getvalue()
    assert "ingestion works, features started, scoring starting; 2 kernels compiled so far" in line, line
    assert "events 1,258 of 2,000" in line and "quality" not in line, line


def test_a_run_with_a_prediction_says_how_well_it_serves() -> None:
    shown = io.StringIO()
    Screen(2_000, Console(file=shown, width=400)).update(DAY, 1_258, RunState(progress={("scoring", 0): Progress("scoring", 0, covered_time=DAY)}))
    assert "quality, last days -" in shown.getvalue() and "waiting" not in shown.getvalue()


def test_an_alarm_that_waits_is_shown_with_its_instant_and_why_until_it_is_followed_or_over() -> None:
    control = RetrainingDecisions([Policy("fraud", 5 * DAY, None, 9)])

    def alarm(day: int) -> list[dict[str, Any]]:
        found = {"drift_id": f"d{day}", "model": "fraud", "kind": "loss", "severity": "alarm", "detector": "adwin", "detail": "worse"}
        return control.finding({**found, "journal_time": day * DAY, "journal_partition": 0, "journal_offset": 0})

    seen = RunState(decisions=alarm(1))
    assert put_off_text(seen) == ""
    seen.decisions += alarm(2) + alarm(3)
    words = "fraud: cool-down: 24 h after the last request; put off until 1970-01-07T00:00:00.000Z"
    assert put_off_text(seen) == words
    shown = io.StringIO()
    Screen(2_000, Console(file=shown, width=400)).update(DAY, 0, replace(seen, progress={("scoring", 0): Progress("scoring", 0, covered_time=DAY)}))
    assert f"put off {words}" in shown.getvalue()
    over = {"incident_id": "i", "status": "resolved", "severity": "alarm", "drift_ids": ["d2", "d3"]}
    assert put_off_text(replace(seen, incidents=[over])) == ""
    seen.decisions += control.advance(6 * DAY)
    assert put_off_text(seen) == "", "it was followed"
