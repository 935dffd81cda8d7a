"""A version's stages, trials and incidents, from logs written out by hand."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tidemill.cards.history import Stay, comparisons_of, incidents_of, stays_of, version_history
from tidemill.shared.lake.history import HISTORY, history, history_row
from tidemill.shared.lake.names import DECISIONS, DEPLOYMENTS, INCIDENTS, TRIALS
from tidemill.shared.lake.tables import Lake


def log(*events: tuple[str, str, int]) -> list[dict[str, Any]]:
    return [
        {
            "sequence": i, "parent": i - 1, "decision_id": f"d{i}", "model": "fraud", "event": event, "version": version, "journal_time": at,
            "artifact_sha256": version, "threshold": 0.5, "share": 0.1, "reason": f"reason {i}", "operator": "", "figures": {"e_value": 21.0},
        }
        for i, (event, version, at) in enumerate(events)
    ]  # fmt: skip


LOG = log(
    ("registered", "v1", 10), ("gate_passed", "v1", 11), ("promoted", "v1", 12), ("registered", "v2", 20), ("shadow", "v2", 21),
    ("canary", "v2", 30), ("promoted", "v2", 40), ("rolled_back", "v1", 50), ("pinned", "v1", 60), ("shadow", "v3", 70),
    ("stepped_back", "v3", 80),
)  # fmt: skip


def incident(name: str, opened: int, status: str, at: int, action: str = "") -> dict[str, Any]:
    return {"incident_id": name, "model": "fraud", "opened": opened, "status": status, "journal_time": at, "action": action}


def trial(slice_: str, stage: str, labels: int, champion: float | None, challenger: float | None) -> dict[str, Any]:
    return {
        "model": "fraud", "slice": slice_, "champion_version": "v1", "challenger_version": "v2", "stage": stage, "labels": labels,
        "champion_loss": champion, "challenger_loss": challenger, "journal_time": 25,
    }  # fmt: skip


def test_stages_follow_the_log_and_nothing_else() -> None:
    assert stays_of(LOG, "v1") == (Stay("champion", 1.0, 12, 40, "promoted"), Stay("champion", 1.0, 50))
    assert stays_of(LOG, "v2") == (
        Stay("shadow", 0.0, 21, 30, "canary"), Stay("canary", 0.1, 30, 40, "promoted"), Stay("champion", 1.0, 40, 50, "rolled_back"),
    )  # fmt: skip
    assert stays_of(LOG, "v3") == (Stay("shadow", 0.0, 70, 80, "stepped_back"),)
    # A zombie's event does not count, and a version nobody tried was in no stage.
    assert stays_of([*LOG, {**LOG[6], "version": "v3"}], "v1")[-1].until_ms is None and stays_of(LOG, "v4") == ()


def test_blocks_are_weighed_by_their_labels_and_slices_are_no_more_requests() -> None:
    comparisons = comparisons_of([
        trial("", "shadow", 10, 0.2, 0.4), trial("", "shadow", 30, 0.4, 0.6), trial("country=ab", "shadow", 9, 9.0, 9.0),
        trial("", "shadow", 0, None, None), trial("", "canary", 5, 0.5, 0.25),
    ])  # fmt: skip
    assert [(one.stage, one.blocks, one.labels) for one in comparisons] == [("shadow", 3, 40), ("canary", 1, 5)]
    assert (comparisons[0].champion_loss, comparisons[0].challenger_loss) == pytest.approx((0.35, 0.55))


def test_an_incident_is_over_when_it_was_resolved_not_when_its_last_record_came() -> None:
    incidents = incidents_of([
        incident("a", 1, "open", 1), incident("a", 1, "resolved", 5), incident("b", 2, "open", 2), incident("a", 1, "resolved", 9, "retrained"),
    ])  # fmt: skip
    assert [(one.newest["incident_id"], one.over_ms, one.newest["action"]) for one in incidents] == [("a", 5, "retrained"), ("b", None, "")]


def test_a_history_is_read_from_the_archive_and_a_newer_schema_changes_no_table(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path), "app")
    assert not version_history(lake, "fraud", "v2").is_kept
    kept = {
        DEPLOYMENTS: [*LOG, {**LOG[0], "model": "other", "version": "v2"}],
        DECISIONS: [{"decision_id": "d6", "model": "fraud", "journal_time": 39, "trigger": "trial"}],
        TRIALS: [trial("", "shadow", 10, 0.2, 0.4)],
        # One was over before the version answered, one only while it was in shadow, one lasts into its canary, one came after it.
        INCIDENTS: [
            incident("early", 1, "resolved", 5), incident("shadow", 22, "resolved", 29), incident("lasting", 22, "open", 22),
            incident("lasting", 22, "resolved", 35), incident("late", 55, "open", 55),
        ],
    }  # fmt: skip
    for table, records in kept.items():
        for place, record in enumerate(records):
            wider = {**record, "a_field_of_tomorrow": {"x": [1.5, None]}} if place % 2 else record
            lake.append(table, pa.Table.from_pylist([history_row(place, wider)], schema=HISTORY), "t:0", [place])
    told = version_history(lake, "fraud", "v2")
    assert told.is_kept and [stay.stage for stay in told.stays] == ["shadow", "canary", "champion"]
    assert [(one.deployment["event"], one.decision and one.decision["trigger"]) for one in told.events] == [
        ("registered", None), ("shadow", None), ("canary", None), ("promoted", "trial"),
    ]  # fmt: skip
    assert [one.newest["incident_id"] for one in told.incidents] == ["lasting"] and len(told.comparisons) == 1
    assert history(lake, DEPLOYMENTS, "other")[0]["version"] == "v2" and history(lake, DEPLOYMENTS, "nobody") == []
