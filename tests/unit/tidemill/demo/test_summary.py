"""The demo's words say what its figures show, and nothing where they show nothing."""

from tidemill.demo.summary import against_unjudged, psi_by_week, way_of
from tidemill.runs.watch import RunState


def test_a_run_without_a_refusal_is_not_held_against_itself() -> None:
    assert against_unjudged("auc", {"auc": 0.78}, {"auc": 0.0, "low": 0.0, "high": 0.0}) == ""


def test_what_refusals_have_cost_or_brought_is_said_with_its_interval() -> None:
    words = against_unjudged("auc", {"auc": 0.775}, {"auc": 0.004, "low": 0.001, "high": 0.007})
    assert words == " Every candidate put into service unjudged would have had 0.775 (served +0.004, 95 % interval +0.001 to +0.007)."


def test_the_way_of_a_version_through_the_stages_is_told_with_its_days() -> None:
    day = 86_400_000
    events = [
        ("v1", "promoted", 0),
        ("v2", "shadow", 10),
        ("v2", "canary", 18),
        ("v2", "ab", 20),
        ("v2", "promoted", 22),
        ("v3", "shadow", 30),
        ("v3", "stepped_back", 37),
    ]
    seen = RunState(deployments=[{"version": version, "event": event, "journal_time": at * day} for version, event, at in events])
    assert way_of("v1", seen) == "promoted" and way_of("v4", seen) == ""
    assert way_of("v2", seen) == "shadow 01-11, canary 01-19, A/B test 01-21, promoted 01-23"
    assert way_of("v3", seen) == "shadow 01-31, stepped back 02-07"


def test_the_heat_map_begins_with_what_shifted_and_matters() -> None:
    day = 86_400_000
    shifts = [("rain", 0.95, 0.02), ("hour", 0.6, 0.6), ("carrier", 0.1, 0.1)]
    metrics = {f"shift__{name}": shift for name, shift, _ in shifts} | {f"ranked__{name}": rank for name, _, rank in shifts}
    names, weeks, values = psi_by_week(RunState(health=[{"window_start": 7 * day, "metrics": metrics}]))
    assert names == ["hour", "carrier", "rain"] and len(weeks) == 1
    assert values.tolist() == [[0.6], [0.1], [0.95]], "what is shown is the shift itself"
