"""Three classes and a number through a backtest with the real trainer: searched, judged, promoted, served, refitted."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from sklearn import metrics as oracle

from tests.long_forms import shortened
from tests.trainer_here import TrainerHere
from tests.unit.tidemill.backtest.meters import CLASSES, SLICE_MS, WEIGHTS, application, files
from tidemill.backtest.run import BacktestOptions, backtest
from tidemill.services.cli.backtest_data import DataChoice

ROWS = 800
FAMILIES = {"multiclass": "logistic_regression", "regression": "ridge_regression"}


@pytest.mark.lasts(8)
@pytest.mark.parametrize("kind", shortened(["multiclass", "regression"], 1))
def test_a_real_model_is_found_promoted_and_served_and_is_nearly_the_best_there_is(tmp_path: Path, kind: str) -> None:
    made = application(tmp_path / "app", kind)
    text = (made / "app.yaml").read_text()
    text = text.replace("schedule: 4d", "schedule: 7d").replace("trials: 2}", f"trials: 4, families: [{FAMILIES[kind]}], windows_days: [0]}}")
    (made / "app.yaml").write_text(text)
    options = BacktestOptions(
        DataChoice(files(tmp_path, kind, ROWS)), SLICE_MS, folder=tmp_path / "kept", predictions=tmp_path / "p.parquet", report=tmp_path / "r.json"
    )
    trainer = TrainerHere()
    result = backtest(made, options, Console(file=io.StringIO()), trainer)
    assert not [finding.text for finding in result.findings if finding.fails]
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["promotions"] >= 2 and len(trainer.results) == report["retrains"]
    truths = pd.read_csv(tmp_path / "truths.csv").set_index("reading_id")["truth"]
    asked = pd.read_csv(tmp_path / "readings.csv").set_index("reading_id")
    rows = pq.read_table(tmp_path / "p.parquet").to_pandas().set_index("event_id")
    judged = rows[~rows["degraded"] & rows.index.isin(truths.index)]
    truth, line = truths[judged.index], asked.loc[judged.index, ["f0", "f1"]].to_numpy() @ WEIGHTS[kind]
    served = report["models"]["heat"]["served"]
    assert len(judged) == report["models"]["heat"]["judged_rows"] > 300
    if kind == "multiclass":
        scores = np.array([[dict(row)[name] for name in CLASSES] for row in judged["scores"]])
        best = np.exp(line) / np.exp(line).sum(axis=1, keepdims=True)
        losses = [oracle.log_loss(truth.map(CLASSES.index), table / table.sum(axis=1, keepdims=True)) for table in (scores, best)]
        assert served["log_loss"] == pytest.approx(losses[0], rel=1e-5)
        assert losses[0] < 1.15 * losses[1] < np.log(3) - 0.3, losses
    else:
        errors = [float(np.sqrt(((truth.to_numpy() - answer) ** 2).mean())) for answer in (judged["score"].to_numpy(), line[:, 0])]
        assert served["root_mean_squared_error"] == pytest.approx(errors[0])
        assert errors[0] < 1.06 * errors[1], errors
        coverage = truth.between(judged["lower"], judged["upper"]).mean()
        assert served["coverage"] == pytest.approx(coverage) and abs(coverage - 0.9) <= max(0.02, 2 * np.sqrt(0.09 / len(judged)))
