"""Trainings more often than a trial lasts, in one process: refits of what serves go out at once, and the other recipe is judged."""

from collections import Counter
from pathlib import Path

import pytest

from tests.unit.tidemill.backtest.recipe_trainer import RecipeTrainer
from tests.unit.tidemill.backtest.test_stages import ManyMeters
from tests.unit.tidemill.planning.one_process import APP, write

pytestmark = pytest.mark.lasts(10)

OFTEN = APP.replace("cool_down: 1d, schedule: 4d", "cool_down: 1h, schedule: 12h").replace(
    "    fallback:", "    gate: {block: 3h}\n    stages: {canary: {share: 0.3, for: 1d, labels: 50}, longest: 12d}\n    fallback:"
)


def test_refits_serve_while_another_recipe_is_tried_which_serves_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ManyMeters, "trainer", RecipeTrainer)
    run = ManyMeters(tmp_path)
    run.start(write(tmp_path / "one", OFTEN))
    kept = ("canary", "promoted", "stepped_back")
    steps: list[tuple[str, str]] = []
    while run._rows < 1_800 and not any(before == ("canary", version) for before in steps for event, version in steps if event == "promoted"):
        run.publish(60)
        steps = [(event["event"], event["version"]) for event in run.records("meters-deployments", "deployment") if event["event"] in kept]
    run.publish(20)

    tried = next(version for event, version in steps if event == "canary")
    begun = steps.index(("canary", tried))
    beside = steps[begun + 1 : steps.index(("promoted", tried))]
    assert len(beside) >= 2 and {event for event, _ in beside} == {"promoted"}, "refits went out, and none of them ended the trial"
    pairs = run.records("meters-shadow-scores", "shadow-score")
    assert {one["challenger_version"] for one in pairs} == {tried}
    assert {one["champion_version"] for one in pairs} >= {version for _, version in beside}, "it was held against each of them"
    trials = [one for one in run.records("meters-trials", "trial") if not one["slice"]]
    assert sum(one["requests"] for one in trials) > 0 and {one["challenger_sequence"] for one in trials} == {pairs[0]["challenger_sequence"]}
    answers = run.records("meters-predictions", "prediction")
    assert Counter(one["request_id"] for one in answers) == Counter(f"r{i}" for i in range(run._rows)), "every request is answered once"
    verdict = run.audit().result
    assert verdict.clean, verdict.examples
    assert (verdict.predictions_compared, verdict.shadow_scores_compared) == (len(answers), len(pairs))
