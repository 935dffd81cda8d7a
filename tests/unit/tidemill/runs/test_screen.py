"""The live screen says what is tried beside which champion."""

from typing import Any

from tidemill.runs.screen import tried_text
from tidemill.runs.watch import RunState

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
