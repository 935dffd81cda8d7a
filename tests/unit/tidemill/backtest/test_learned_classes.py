"""A table whose classes nobody has declared, through a whole backtest with real trainings: held against the file, audited, and given again."""

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from sklearn import metrics as oracle

from tests.trainer_here import TrainerHere
from tests.unit.tidemill.backtest.meters import LEARNED, SLICE_MS, START, STEP_MS, application, files
from tidemill.audit.audit import audit
from tidemill.audit.run_log import TopicLog
from tidemill.backtest.public_log import PublicLog
from tidemill.backtest.recorded_run import recorded_switches
from tidemill.backtest.rerun import rerun
from tidemill.backtest.run import BacktestOptions, BacktestResult, backtest
from tidemill.backtest.stages import StageWorld
from tidemill.backtest.virtual_time import VirtualClock
from tidemill.cards.facts import gather
from tidemill.cards.figures import part
from tidemill.cards.page import write_card
from tidemill.experiments.run import Cuts, prepare_first
from tidemill.experiments.space import draw
from tidemill.experiments.trial import FoldedRows, run_trial
from tidemill.offline.diagnose import diagnose_model
from tidemill.offline.explain import explain_request
from tidemill.offline.reproduce import reproduce
from tidemill.offline.training_set import read_training_set
from tidemill.planning.trial_figures import compared
from tidemill.runs.topics import create_topics
from tidemill.services.cli.backtest_data import DataChoice
from tidemill.services.retraining.labelled_rows import examples_of
from tidemill.services.retraining.learned_classes import learned_from
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.lake.names import OUTCOMES
from tidemill.shared.lake.tables import Lake
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.models.artifacts import Artifact, ArtifactStore

pytestmark = pytest.mark.lasts(20)
ROWS = 1_000


class Remembering(MemoryBroker):
    """Forgets nothing, so that a backtest's topics can be read afterwards."""

    made: ClassVar[list["Remembering"]] = []

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.made.append(self)

    def forget(self) -> None:
        """Keep everything."""

    def written(self, topic: str) -> list[tuple[bytes | None, bytes | None]]:
        runs = self.reader().read(TopicPartition(topic, 0), 0)
        return [pair for records in runs for pair in zip(records.keys, records.values, strict=True)]


class Registry(MemorySchemaRegistry):
    """Remembered as well."""

    made: ClassVar[list["Registry"]] = []

    def __init__(self) -> None:
        super().__init__()
        self.made.append(self)


@dataclass(frozen=True)
class Run:
    """A backtest and what it has left."""

    folder: Path
    result: BacktestResult
    broker: Remembering
    registry: Registry
    answers: pd.DataFrame
    truths: pd.DataFrame

    @property
    def artifacts(self) -> ArtifactStore:
        """Its models."""
        return ArtifactStore(str(self.folder / "kept" / "artifacts"))

    @property
    def lake(self) -> Lake:
        """Its archive."""
        return Lake(str(self.folder / "kept" / "lake"), "meters")

    @property
    def versions(self) -> dict[str, tuple[str, ...]]:
        """Classes that the lifecycle log says of each version, in the order of the trainings."""
        return {one["version"]: tuple(one["classes"]) for one in self.result.seen.deployments if one["event"] == "registered"}


def written(folder: Path) -> Path:
    """Write the application, whose trainings are the first one and what is asked for because a class is new."""
    made = application(folder / "app", "learned")
    text = (made / "app.yaml").read_text()
    text = text.replace("bootstrap_labels: 200", "bootstrap_labels: 400").replace("schedule: 4d", "schedule: 60d")
    text = text.replace("trials: 2}", "trials: 2, families: [logistic_regression], windows_days: [0], min_positives: 10}")
    (made / "app.yaml").write_text(text)
    return made


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("learned")
    data = DataChoice(files(folder, "learned", ROWS, seed=5))
    options = BacktestOptions(data, SLICE_MS, folder=folder / "kept", predictions=folder / "p.parquet", report=folder / "r.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tidemill.backtest.run.MemoryBroker", Remembering)
        patch.setattr("tidemill.backtest.run.MemorySchemaRegistry", Registry)
        result = backtest(written(folder), options, Console(file=io.StringIO()), TrainerHere())
    truths = pd.read_csv(folder / "truths.csv")
    rows = (
        pq.read_table(folder / "p.parquet").to_pandas().merge(truths[["reading_id", "truth"]], left_on="event_id", right_on="reading_id", how="left")
    )
    return Run(folder, result, Remembering.made[-1], Registry.made[-1], rows, truths)


def test_the_first_training_fixes_the_classes_and_a_later_one_adds_to_their_end(run: Run) -> None:
    first, *later = run.versions.values()
    # Those with enough labels, by name; hail has two, and storm had not come yet.
    assert first == ("cold", "hot", "mild")
    assert later[-1] == (*first, "storm")
    for before, after in zip(run.versions.values(), later, strict=False):
        assert after[: len(before)] == before
    events = [one for one in run.result.seen.deployments if one["event"] == "registered"]
    assert events[0]["details"]["classes_left_out"].startswith("hail (")
    for one in events:
        assert Artifact.from_bytes(run.artifacts.get(one["artifact_sha256"])).signature.classes == tuple(one["classes"])


def test_a_class_that_can_be_learned_is_asked_for_by_name_and_its_incident_says_what_became_of_it(run: Run) -> None:
    seen = run.result.seen
    first, second = run.versions
    (asked,) = [one for one in seen.decisions if one["trigger"] == "new_class"]
    assert (
        asked["verdict"] == "requested"
        and asked["reason"].startswith("threshold: ")
        and " labels of class storm, unknown to champion" in asked["reason"]
    )
    assert [(one["trigger"], one["reason"].split(" ")[0]) for one in seen.retraining if one["event"] == "finished"] == [
        ("bootstrap", first), ("new_class", second)
    ]  # fmt: skip
    told = [one for one in seen.incidents if one["root"] == "labels:heat"]
    assert {one["incident_id"] for one in told} == {told[0]["incident_id"]} and told[0]["subjects"] == ["storm"]
    assert [one["change"] for one in told] == ["opened", "joined", "acted", "acted", "resolved"]
    assert [one["result"].split(":")[0] for one in told[-1]["decisions"]] == [f"{second} promoted"]


def test_answers_have_the_classes_of_their_version_and_none_before_the_first(run: Run) -> None:
    rows, served = run.answers, run.answers[~run.answers["degraded"]]
    nothing = rows[rows["degraded"]]
    assert len(nothing) > 300 and nothing["scores"].isna().all() and nothing["predicted_label"].isna().all()
    assert set(nothing["predicted"]) == {-1} and set(nothing["score"]) == {0.0}
    for version, own in served.groupby("model_version"):
        classes = run.versions[str(version)]
        assert all(tuple(name for name, _ in row) == classes for row in own["scores"])
        assert (own["predicted_label"] == [classes[i] for i in own["predicted"]]).all()
    assert served["model_version"].nunique() >= 2 and "storm" in set(served["predicted_label"])


def test_the_report_judges_by_every_class_that_some_version_knows(run: Run) -> None:
    own = json.loads((run.folder / "r.json").read_text())["models"]["heat"]
    classes = list(run.versions.values())[-1]
    judged = run.answers[~run.answers["degraded"] & run.answers["truth"].isin(classes)]
    scores = np.array([[dict(row).get(name, 0.0) for name in classes] for row in judged["scores"]])
    truth = judged["truth"].map(classes.index)
    assert own["judged_rows"] == len(judged)
    assert own["served"]["accuracy"] == pytest.approx((judged["predicted_label"] == judged["truth"]).mean())
    expected = np.mean([oracle.roc_auc_score(truth == i, scores[:, i]) for i in range(len(classes))])
    assert own["served"]["auc"] == pytest.approx(expected)
    # A first model that never says storm is worse.
    assert own["static"]["accuracy"] < own["served"]["accuracy"] - 0.05


def test_health_counts_the_labels_that_no_version_knows(run: Run) -> None:
    days = [one["metrics"] for one in run.result.seen.health]
    counted = sum(one["labels_of_unknown_classes"] for one in days)
    labels = sum(one["labels"] for one in days)
    assert counted + labels == len(run.truths)
    # All until the first model answers, then every storm until a model knows it, and hail for ever.
    assert counted > 400 and days[-1]["labels_of_unknown_classes"] <= 2
    busy = [one for one in days if one["predictions"]]
    assert {"label_share__storm", "predicted_share__storm"} <= set(busy[-1]) and "label_share__storm" not in busy[10]


def test_the_audit_agrees_and_the_run_is_given_again_bit_for_bit(run: Run) -> None:
    plan, log = load_plan(run.folder / "app"), TopicLog(load_plan(run.folder / "app"), run.broker, run.registry)
    audited = audit(plan, run.registry, run.artifacts, log)
    assert audited.clean and audited.predictions_compared == ROWS
    switches, clock = recorded_switches(plan, log, run.registry), VirtualClock()
    again = Remembering(clock.now_ms, 0.0)
    create_topics(plan, again)
    world = StageWorld(plan, run.folder / "app", run.folder / "again", again, run.registry, clock, str(run.folder / "kept" / "artifacts"))
    rerun(world, again, log, switches, PublicLog(plan, again, run.registry, lambda _: None), lambda at, count, seen: None)
    for topic in (plan.topics.predictions, plan.topics.outcomes):
        assert again.written(topic) == run.broker.written(topic) and again.written(topic)


def test_a_version_with_a_class_more_is_made_again_byte_for_byte(run: Run) -> None:
    plan, kept = load_plan(run.folder / "app"), run.folder / "kept"
    longer = next(version for version, classes in run.versions.items() if "storm" in classes)
    lake = str(kept / "lake")
    made = reproduce(plan, Lake(lake, "meters"), lake, str(kept / "artifacts"), "heat", longer)
    assert made.is_identical and made.verdict_agrees


def test_an_answer_is_explained_with_the_classes_of_its_version(run: Run) -> None:
    plan = load_plan(run.folder / "app")
    for version in run.versions:
        answers = run.answers[run.answers["model_version"] == version]
        request = answers[answers["predicted_label"] == run.versions[version][-1]].iloc[-1]
        (one,) = explain_request(plan, run.lake, run.artifacts, request["event_id"])
        assert one.reproduced and one.version == version and one.score == request["score"]
        # A margin against the mean row, in which the features that the class lies at push towards it.
        assert one.shares[0].feature == {"storm": "f1", "mild": "f0"}[request["predicted_label"]] and one.shares[0].contribution > 0


def test_a_diagnosis_compares_a_version_with_one_that_knows_a_class_more(run: Run) -> None:
    first, second = run.versions
    own = run.answers["model_version"] == second
    begin = START + STEP_MS * int(np.flatnonzero(own)[0])
    diagnosis = diagnose_model(load_plan(run.folder / "app"), run.lake, run.artifacts, "heat", begin)
    assert (diagnosis.version, diagnosis.version_before) == (second, first)
    known = run.answers[own & run.answers["truth"].isin(LEARNED)]
    assert diagnosis.diagnosis.figures["rate of storm now"] == pytest.approx((known["truth"] == "storm").mean())
    assert np.isfinite([cause.loss for cause in diagnosis.diagnosis.causes]).all()


def test_a_card_has_the_classes_of_its_version(run: Run) -> None:
    plan = load_plan(run.folder / "app")
    for version, classes in run.versions.items():
        facts = gather(plan, "heat", version, run.lake, run.artifacts, None)
        judged = run.answers[(run.answers["model_version"] == version) & run.answers["truth"].isin(classes)]
        assert facts.model.kind.classes == classes and facts.since.scores.shape == (len(judged), len(classes))
        accuracy = part(facts.model.kind, facts.since, "all").figures["accuracy"]
        assert accuracy == pytest.approx((judged["predicted_label"] == judged["truth"]).mean())
        write_card(run.folder / "card.html", facts)
        assert version in (run.folder / "card.html").read_text()


def test_an_experiment_takes_the_classes_that_there_are_rows_enough_of(run: Run) -> None:
    plan = load_plan(run.folder / "app")
    settings = plan.models["heat"].settings
    training = settings.training.model_copy(update={"holdout_days": 4})
    model = replace(plan.models["heat"], settings=settings.model_copy(update={"training": training}))
    configurations = draw(model, 1, 0)
    ends = {"all": None, "early": START + 14 * 86_400_000}
    learned = {}
    for name, end in ends.items():
        choices = learned_from(model, read_training_set(plan, "heat", run.lake, end))
        chosen, experiment = prepare_first(plan, choices, configurations, Cuts(1, 0), 0, run.folder / f"experiments-{name}")
        learned[name] = chosen.kind.classes
        rows = next(rows for one, rows in choices if one is chosen)
        folded = FoldedRows(examples_of(rows, chosen), experiment.subject.folds, chosen.kind, experiment.subject.rules)
        assert run_trial(folded, configurations[0])["loss"] < np.log(len(chosen.kind.classes)) - 0.3
    assert learned == {"all": LEARNED, "early": LEARNED[:3]}


def test_a_plan_compares_answers_by_every_class_that_either_knows(run: Run) -> None:
    model = load_plan(run.folder / "app").models["heat"]
    outcomes = run.lake.dataset(OUTCOMES).to_table()
    comparison = compared(model, model, outcomes, outcomes, run.lake)
    judged = run.answers[~run.answers["degraded"] & run.answers["truth"].isin(LEARNED)]
    assert comparison["rows"] == len(judged)
    assert comparison["running"] == comparison["changed"] and (comparison["gap"]["low"], comparison["gap"]["high"]) == (0.0, 0.0)
