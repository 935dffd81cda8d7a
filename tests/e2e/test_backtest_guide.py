"""The guide's first example, run as it stands there: payments through every stage in one process, with a real training."""

import json
import re
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tidemill.services.cli.__main__ import app

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guide" / "backtest.md").read_text(encoding="utf-8")


@pytest.mark.lasts(30)
def test_the_example_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = re.findall(r"^tidemill (backtest .*)$", GUIDE, re.MULTILINE)[0]
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, shlex.split(command))
    assert result.exit_code == 0, result.output
    rows = pq.read_table("backtest.parquet").to_pandas()
    assert len(rows) == rows["event_id"].nunique() == 15_000
    figures = json.loads(Path("backtest.json").read_text())
    assert figures["predictions"] == 15_000 and figures["promotions"] >= 1
    assert (rows["model_version"] != "default").sum() == 15_000 - figures["degraded"] > 1_000
    assert figures["models"]["fraud"]["served"]["auc"] > 0.7
    assert "a backtest of payments" in Path("backtest.html").read_text()
