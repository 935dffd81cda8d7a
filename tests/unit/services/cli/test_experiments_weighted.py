"""`tidemill experiments run` on the archive of a run whose answers hide labels: rows count for the requests that they stand for."""

import json
from collections import defaultdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.unit.tidemill.planning.one_process import APP, OneProcess, write
from tidemill.services.cli.__main__ import app

pytestmark = [pytest.mark.lasts(15), pytest.mark.usefixtures("forked_interpreters")]

SHARE = 0.3
HIDING = APP.replace("    fallback:", f"    control: {{share: {SHARE}, hidden_when: predicted = 1}}\n    fallback:")
GRID = "families:\n  logistic_regression: {strength: 0.1}\nwindows_days: [0]\n"


def test_rows_of_a_live_archive_count_for_the_requests_that_they_stand_for(tmp_path: Path) -> None:
    run = OneProcess(tmp_path)
    folder = write(tmp_path / "one", HIDING)
    run.start(folder)
    run.publish(1_200)
    outcomes = run.records("meters-outcomes", "outcome")
    run.stop()
    (tmp_path / "grid.yaml").write_text(GRID)
    grid, lake = str(tmp_path / "grid.yaml"), str(tmp_path / "lake")
    words = ["experiments", "run", str(folder), "--lake", lake, "--grid", grid, "--jobs", "1", "--folds", "1"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    table = json.loads((tmp_path / "out" / "experiments.json").read_text())
    (trial,) = table["trials"]
    assert trial["status"] == "done", trial["reason"]

    # By the outcomes alone: what a model answered with yes is seen in the control share only, and stands for 1 / .3 requests there.
    (begin, end), *_ = table["subject"]["folds"]["spans"]
    stands_for: dict[str, float] = {}
    for one in outcomes:
        hidden = one["predicted"] == 1 and one["variant"] != "default"
        assert (one["propensity"] < 1) == hidden, "the first rows were answered before there was a model"
        if one["label"] is not None and begin <= one["request_journal_time"] < end:
            stands_for[one["request_id"]] = (1 / SHARE if one["control"] else 0.0) if hidden else 1.0
    counted = {request: weight for request, weight in stands_for.items() if weight}
    assert 0 < len(counted) < len(stands_for) and len(set(counted.values())) == 2
    assert trial["judged"] == len(counted)

    result = json.loads(next((tmp_path / "out").glob(f"*/results/{trial['identity']}.json")).read_text())
    days: dict[int, list[float]] = defaultdict(list)
    for one in outcomes:
        if one["request_id"] in counted:
            days[one["request_journal_time"] // 86_400_000].append(counted[one["request_id"]])
    assert [(day, rows, weight) for day, rows, _, weight in result["days"]] == [
        (day, len(own), pytest.approx(sum(own))) for day, own in sorted(days.items())
    ]
    assert result["loss"] == pytest.approx(sum(loss for _, _, loss, _ in result["days"]) / sum(counted.values()))
