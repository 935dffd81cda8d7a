"""A backtest explains its predictions where it is asked to, as `tidemill explain` does, bit for bit."""

import io
import shutil
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from typer.testing import CliRunner

from campaigns.simulate.world import FOLDER
from tests.unit.tidemill.backtest.test_backtest import TrainerByTime, shop_files
from tidemill.backtest.run import BacktestOptions, backtest
from tidemill.offline.explain import explain_request
from tidemill.services.cli.__main__ import app
from tidemill.services.cli.backtest_data import DataChoice
from tidemill.shared.application.planning import load_plan
from tidemill.shared.lake.tables import Lake
from tidemill.shared.models.artifacts import ArtifactStore


def test_each_prediction_is_explained_as_the_command_explains_it(tmp_path: Path) -> None:
    application, kept = tmp_path / "shop", tmp_path / "kept"
    shutil.copytree(FOLDER, application)
    text = (application / "app.yaml").read_text()
    (application / "app.yaml").write_text(text.replace("    fallback:", "    explain: {top: 2}\n    fallback:"))
    plan, store = load_plan(application), ArtifactStore(str((kept / "artifacts").absolute()))
    options = BacktestOptions(
        DataChoice(shop_files(tmp_path)), 40_000, predictions=tmp_path / "p.parquet", explanations=tmp_path / "e.parquet", folder=kept
    )
    backtest(application, options, Console(file=io.StringIO()), TrainerByTime(plan, store))
    answers, explanations = (pq.read_table(tmp_path / f"{name}.parquet").to_pylist() for name in "pe")
    shared = ("event_id", "model", "model_version", "variant", "score", "predicted")
    assert [[one[name] for name in shared] for one in explanations] == [[one[name] for name in shared] for one in answers]
    explained = [one for one in explanations if one["not_explained"] is None]
    assert explained and {one["not_explained"] for one in explanations} == {None, "fallback"}
    lake = Lake(str(kept / "lake"), plan.application.app)
    for one in explained[:: len(explained) // 3]:
        (explanation,) = explain_request(plan, lake, store, one["event_id"])
        assert explanation.reproduced and (explanation.base, explanation.method) == (one["base"], one["method"])
        said = [(part["feature"], part["number"] if part["text"] is None else part["text"], part["contribution"]) for part in one["contributions"]]
        assert said == [(share.feature, share.value, share.contribution) for share in explanation.shares[:2]]


def test_an_application_without_explain_is_told_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["backtest", str(FOLDER), "--data", "orders=x.csv", "--explanations", str(tmp_path / "e.parquet")])
    assert result.exit_code == 2 and "expected a model that declares explain" in " ".join(result.output.replace("│", " ").split())
