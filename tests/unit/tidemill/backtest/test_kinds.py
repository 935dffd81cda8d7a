"""A table whose question has three answers, and one whose answer is a number, from the first request to several models, held against its files."""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from sklearn import metrics as oracle

from tests.unit.tidemill.backtest.meters import CLASSES, SLICE_MS, LinearTrainer, application, files
from tidemill.audit.audit import audit
from tidemill.audit.history import prediction_schema
from tidemill.audit.run_log import TopicLog
from tidemill.backtest.public_log import PublicLog
from tidemill.backtest.recorded_run import recorded_switches
from tidemill.backtest.rerun import rerun
from tidemill.backtest.run import BacktestOptions, BacktestResult, backtest
from tidemill.backtest.stages import StageWorld
from tidemill.backtest.virtual_time import VirtualClock
from tidemill.offline.training_set import read_training_set
from tidemill.runs.screen import quality_text
from tidemill.runs.topics import create_topics
from tidemill.services.cli.backtest_data import DataChoice
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.lake.tables import Lake
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.models.artifacts import ArtifactStore


class _Remembering(MemoryBroker):
    """Forgets nothing, so that a backtest's topics can be read afterwards."""

    made: ClassVar[list["_Remembering"]] = []

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.made.append(self)

    def forget(self) -> None:
        """Keep everything."""

    def written(self, topic: str) -> list[tuple[bytes | None, bytes | None]]:
        parts = self.reader().read(TopicPartition(topic, 0), 0)
        return [pair for records in parts for pair in zip(records.keys, records.values, strict=True)]


class _Registry(MemorySchemaRegistry):
    made: ClassVar[list["_Registry"]] = []

    def __init__(self) -> None:
        super().__init__()
        self.made.append(self)


@dataclass(frozen=True)
class Made:
    """A backtest that several tests look at, and what it has left."""

    kind: str
    folder: Path
    result: BacktestResult
    broker: _Remembering
    registry: _Registry


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A backtest of the kind that a test names."""
    kind, folder = request.param, tmp_path_factory.mktemp("made")
    out = folder / "kept"
    options = BacktestOptions(
        DataChoice(files(folder, kind)), 2 * SLICE_MS, folder=out, predictions=folder / "predictions.parquet", report=folder / "report.json",
        html=folder / "report.html",
    )  # fmt: skip
    trainer = LinearTrainer(kind, ArtifactStore(str((out / "artifacts").absolute())))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tidemill.backtest.run.MemoryBroker", _Remembering)
        patch.setattr("tidemill.backtest.run.MemorySchemaRegistry", _Registry)
        result = backtest(application(folder / "app", kind), options, Console(file=io.StringIO()), trainer)
    return Made(kind, folder, result, _Remembering.made[-1], _Registry.made[-1])


def answers(folder: Path) -> pd.DataFrame:
    """Rows of the predictions file beside the truth of the source file."""
    rows = pq.read_table(folder / "predictions.parquet").to_pandas()
    truths = pd.read_csv(folder / "truths.csv")[["reading_id", "truth"]]
    return pd.DataFrame(rows.merge(truths, left_on="event_id", right_on="reading_id", how="left"))


@pytest.mark.parametrize("made", ["multiclass", "regression"], indirect=True)
def test_a_backtest_learns_serves_and_judges(made: Made) -> None:
    kind, tmp_path, result = made.kind, made.folder, made.result
    assert not [finding.text for finding in result.findings if finding.fails]
    rows = answers(tmp_path)
    assert len(rows) == 1_500 and rows["event_id"].is_unique and rows["model_version"].nunique() >= 4
    report = json.loads((tmp_path / "report.json").read_text())
    own = report["models"]["heat"]
    judged = rows[~rows["degraded"] & rows["truth"].notna()]
    assert own["kind"] == kind and own["judged_rows"] == len(judged) and report["promotions"] >= 3 and report["refusals"] >= 1
    if kind == "multiclass":
        scores = np.array([[dict(row)[name] for name in CLASSES] for row in judged["scores"]])
        truth = judged["truth"].map(CLASSES.index)
        assert np.allclose(scores.sum(axis=1), 1, atol=1e-5) and (judged["score"] == scores.max(axis=1)).all()
        assert (judged["predicted_label"] == [CLASSES[i] for i in judged["predicted"]]).all() and (judged["predicted"] == scores.argmax(axis=1)).all()
        assert own["headline"] == "auc" and rows["lower"].isna().all()
        assert own["served"]["auc"] == pytest.approx(oracle.roc_auc_score(truth, scores, multi_class="ovr"))
        assert own["served"]["log_loss"] == pytest.approx(oracle.log_loss(truth, scores / scores.sum(axis=1, keepdims=True)), rel=1e-5)
        assert own["served"]["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(truth, judged["predicted"]))
        assert (rows.loc[rows["degraded"], "predicted_label"] == "mild").all()
        assert own["gap"]["auc"] > 0
    else:
        assert rows["scores"].isna().all() and own["headline"] == "mean_absolute_error"
        assert own["served"]["mean_absolute_error"] == pytest.approx(oracle.mean_absolute_error(judged["truth"], judged["score"]))
        assert own["served"]["r2"] == pytest.approx(oracle.r2_score(judged["truth"], judged["score"]))
        assert own["served"]["coverage"] == pytest.approx(judged["truth"].between(judged["lower"], judged["upper"]).mean())
        assert rows.loc[rows["degraded"], "lower"].isna().all()
        # The models' own intervals hold 91 % at best, and less of the early ones: from the second model on, revisions keep it.
        late = judged[judged["model_version"] != judged["model_version"].iloc[0]]
        assert late["truth"].between(late["lower"], late["upper"]).mean() == pytest.approx(0.9, abs=0.02)
        assert own["gap"]["mean_absolute_error"] < 0
    assert sum(block["rows"] for block in own["blocks"]) == own["judged_rows"]
    days = [record["metrics"] for record in result.seen.health if record["metrics"]["labels"]]
    assert len(days) > 25 and all(own["headline"] in one for one in days)
    assert ("AUC" if kind == "multiclass" else "mean absolute error") in quality_text(result.seen)
    page = (tmp_path / "report.html").read_text()
    assert page.count('class="curve served"') == 1 and "nan" not in page.lower().replace("finance", "")


@pytest.mark.parametrize("made", ["multiclass", "regression"], indirect=True)
def test_archived_labels_are_a_training_set(made: Made) -> None:
    plan = load_plan(made.folder / "app")
    rows = read_training_set(plan, "heat", Lake(str(made.folder / "kept" / "lake"), "meters")).rows.to_pandas()
    truths = pd.read_csv(made.folder / "truths.csv")["truth"]
    expected = truths.map(CLASSES.index).astype(float) if made.kind == "multiclass" else truths
    assert sorted(rows["_label"]) == pytest.approx(sorted(expected)) and len(rows) == len(expected)


@pytest.mark.parametrize("made", ["regression"], indirect=True)
def test_revisions_are_given_again_where_the_run_followed_them_and_the_audit_agrees(made: Made) -> None:
    tmp_path, broker, registry = made.folder, made.broker, made.registry
    plan = load_plan(tmp_path / "app")
    artifacts, log = ArtifactStore(str(tmp_path / "kept" / "artifacts")), TopicLog(plan, broker, registry)
    result = audit(plan, registry, artifacts, log)
    assert result.clean and result.predictions_compared == 1_500
    switches = recorded_switches(plan, log, registry)
    assert sum(switch.is_revision for switch in switches) == len(log.revisions()) > 40
    clock = VirtualClock()
    again = _Remembering(clock.now_ms, 0.0)
    create_topics(plan, again)
    world = StageWorld(plan, tmp_path / "app", tmp_path / "again", again, registry, clock, str(tmp_path / "kept" / "artifacts"))
    public = PublicLog(plan, again, registry, lambda _: None)
    rerun(world, again, log, switches, public, lambda at, count, seen: None)
    for topic in (plan.topics.predictions, plan.topics.outcomes, plan.topics.revisions):
        assert again.written(topic) == broker.written(topic)
    revised = ColumnDecoder(registry, prediction_schema()).decode([value or b"" for _, value in again.written(plan.topics.predictions)]).batch
    assert revised.column("revision").null_count < 1_000 and len(revised.column("revision").unique()) > 20
