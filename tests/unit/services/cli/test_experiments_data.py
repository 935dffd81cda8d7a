"""`tidemill experiments run --data`: files instead of an archive."""

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.unit.tidemill.backtest.meters import application, files
from tidemill.services.cli.__main__ import app


@pytest.mark.lasts(6)
def test_files_are_archived_as_a_run_would_and_each_row_is_judged_that_was_known(tmp_path: Path) -> None:
    made = application(tmp_path / "app", "regression")
    sources = [word for one in files(tmp_path, "regression", 800) for word in ("--data", one)]
    words = ["experiments", "run", str(made), *sources, "--trials", "1", "--jobs", "1", "--folds", "1", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    table = json.loads((tmp_path / "out" / "experiments.json").read_text())
    (trial,), dataset = table["trials"], table["subject"]["dataset"]
    asked, truths = (pd.read_csv(tmp_path / f"{name}.csv").set_index("reading_id") for name in ("readings", "truths"))
    rows = asked.join(truths, rsuffix="_known", how="inner")
    assert int(dataset["rows"]) == len(rows), "nothing was trained on the way, every row is there"
    (begin, end), *_ = table["subject"]["folds"]["spans"]
    assert trial["status"] == "done" and trial["judged"] == ((rows["at"] >= begin) & (rows["at"] < end)).sum() > 50
