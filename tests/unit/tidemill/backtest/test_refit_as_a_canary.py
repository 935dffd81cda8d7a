"""A canary and no shadow, in one process: refits and new recipes begin alike, and only the worker knows which is which."""

from collections import Counter
from pathlib import Path

import pytest

from tests.unit.tidemill.backtest.recipe_trainer import RecipeTrainer
from tests.unit.tidemill.backtest.test_stages import ManyMeters
from tests.unit.tidemill.planning.one_process import APP, write

pytestmark = pytest.mark.lasts(10)

RARELY = APP.replace("cool_down: 1d, schedule: 4d", "cool_down: 1h, schedule: 8d").replace(
    "    fallback:", "    gate: {block: 3h}\n    stages: {canary: {share: 0.3, for: 1d, labels: 50}, refits: canary, longest: 20d}\n    fallback:"
)


class RefitThenNew(RecipeTrainer):
    """The second training refits what serves; the third finds another recipe."""

    new = 3


def test_a_refit_serves_when_it_has_baked_and_a_new_recipe_once_it_has_shown_that_it_is_no_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ManyMeters, "trainer", RefitThenNew)
    run = ManyMeters(tmp_path)
    run.start(write(tmp_path / "one", RARELY))
    steps: list[tuple[str, str]] = []
    while run._rows < 1_800 and Counter(event for event, _ in steps)["promoted"] < 3:
        run.publish(60)
        kept = ("canary", "promoted", "stepped_back", "command_refused")
        steps = [(event["event"], event["version"]) for event in run.records("meters-deployments", "deployment") if event["event"] in kept]
    refit, new = [version for event, version in steps if event == "canary"][:2]
    assert [event for event, version in steps if version == refit][:2] == ["canary", "promoted"]
    # A refusal names the version that serves.
    assert steps[steps.index(("canary", new)) :][:3] == [("canary", new), ("command_refused", refit), ("promoted", new)]

    said = [one for one in run.records("meters-decisions", "decision") if one["trigger"] == "trial"]
    asked = [(one["action"], one["version"]) for one in said][:3]
    assert asked == [("promote_refit", refit), ("promote_refit", new), ("promote", new)]
    assert "level" not in said[0]["figures"] and "e = " in said[2]["reason"]
    figures = said[2]["figures"]
    assert (figures["level"], figures["level_left"]) == pytest.approx((0.0075, 0.0225)), "a quarter of the whole year's: the refit has spent nothing"
    answers = run.records("meters-predictions", "prediction")
    assert Counter(one["request_id"] for one in answers) == Counter(f"r{i}" for i in range(run._rows)), "every request is answered once"
    verdict = run.audit().result
    assert verdict.clean, verdict.examples
