"""The demo's words say what its figures show, and nothing where they show nothing."""

from tidemill.demo.summary import against_unjudged


def test_a_run_without_a_refusal_is_not_held_against_itself() -> None:
    assert against_unjudged("auc", {"auc": 0.78}, {"auc": 0.0, "low": 0.0, "high": 0.0}) == ""


def test_what_refusals_have_cost_or_brought_is_said_with_its_interval() -> None:
    words = against_unjudged("auc", {"auc": 0.775}, {"auc": 0.004, "low": 0.001, "high": 0.007})
    assert words == " Every candidate put into service unjudged would have had 0.775 (served +0.004, 95 % interval +0.001 to +0.007)."
