"""The guide's first example, run as it stands there: payments through every stage in one process, with a real training."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.long_forms import shortened
from tidemill.services.cli.__main__ import app

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guide" / "backtest.md").read_text(encoding="utf-8")


WHOLE = 15_000
# A first training of two trials on a tenth of the labels: the short form's changes to the application.
SMALLER = {
    "bootstrap_labels: 10000, cool_down: 5d, schedule: 14d, budget_per_30d: 6": "bootstrap_labels: 2000, schedule: 60d",
    "trials: 4, windows_days: [0, 14], holdout_days: 3, min_rows: 1500": "trials: 2, holdout_days: 1, min_rows: 500",
}


@pytest.mark.lasts(30)
@pytest.mark.parametrize("count", shortened([6_000, WHOLE], 1))
def test_the_example_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The long form changes nothing. The short one has fewer payments and a smaller training, whose model may be refused."""
    command = re.findall(r"^tidemill (backtest .*)$", GUIDE, re.MULTILINE)[0]
    assert f"--count {WHOLE}" in command
    application = Path(shutil.copytree(ROOT / "examples" / "payments", tmp_path / "examples" / "payments"))
    if count < WHOLE:
        text = (application / "app.yaml").read_text()
        for old, new in SMALLER.items():
            assert old in text
            text = text.replace(old, new)
        (application / "app.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, shlex.split(command.replace(f"--count {WHOLE}", f"--count {count}")))
    assert result.exit_code == 0, result.output
    rows = pq.read_table("backtest.parquet").to_pandas()
    assert len(rows) == rows["event_id"].nunique() == count
    figures = json.loads(Path("backtest.json").read_text())
    assert figures["predictions"] == count and figures["retrains"] >= 1
    assert (rows["model_version"] != "default").sum() == count - figures["degraded"]
    if count == WHOLE:
        assert figures["promotions"] >= 1 and count - figures["degraded"] > 1_000
        assert figures["models"]["fraud"]["served"]["auc"] > 0.7
    assert "a backtest of payments" in Path("backtest.html").read_text()
