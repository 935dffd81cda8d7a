"""The model registry on SQLite: what a training left there, once, and when its version served."""

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.patience import patient
from tidemill.services.retraining.domain.service_times import ServiceTimes
from tidemill.services.retraining.processes.registrar import ProcessRegistrar
from tidemill.shared.models.registry import ModelRegistry

pytestmark = pytest.mark.lasts(10)

TAGS = {"decision_id": "d1", "owner": "someone@example.org", "sha256": "content", "vectors_version": "4", "gate": "passed", "reason": "better"}


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('registry') / 'mlflow.db'}"


def test_a_training_is_recorded_once_and_its_service_times_follow_the_lifecycle_log(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, client = ModelRegistry(uri), MlflowClient(uri, uri)

    def record() -> None:
        registry.record("shop", "m", "v1", "artifacts/v1", TAGS, {"family": "lightgbm", "rounds": 40}, {"auc": 0.7})

    with monkeypatch.context() as crash:
        crash.setattr(MlflowClient, "set_terminated", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            record()
    record()
    record()
    registry.record("shop", "m", "v2", "artifacts/v2", {**TAGS, "decision_id": "d2"}, {"family": "logistic_regression"}, {"auc": 0.6})
    experiment = client.get_experiment_by_name("shop")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.tags["decision_id"] for run in runs) == ["d1", "d2"]
    first = next(run for run in runs if run.data.tags["decision_id"] == "d1")
    assert (first.info.status, first.data.params, first.data.metrics) == ("FINISHED", {"family": "lightgbm", "rounds": "40"}, {"auc": 0.7})
    assert len(client.get_metric_history(first.info.run_id, "auc")) == 1
    versions = {version.tags["version"]: version for version in client.search_model_versions("name = 'shop.m'")}
    assert sorted(versions) == ["v1", "v2"]
    assert client.get_registered_model("shop.m").tags == {"owner": "someone@example.org"}
    assert TAGS.items() <= versions["v1"].tags.items(), "data set, owner, verdict"

    now = 0.0
    registrar = ProcessRegistrar(tmp_path, "shop", uri, clock=lambda: now)
    registrar.want({"m": ServiceTimes({"v1": {"promoted_at": "2013-02-05"}, "v2": {"rolled_back_at": "2013-03-01"}}, "v1"), "new": ServiceTimes()})
    registrar.poll()
    assert registrar._process is not None
    assert registrar._process.wait(patient(60)) == 0, (tmp_path / "registrar.log").read_text()
    now = 4.0
    registrar.poll()
    assert registrar._process is None, "told, and nothing more to tell"
    assert client.get_model_version_by_alias("shop.m", "champion").tags["promoted_at"] == "2013-02-05"
    assert client.get_model_version("shop.m", versions["v2"].version).tags["rolled_back_at"] == "2013-03-01"
    registrar.want({"m": ServiceTimes({"v1": {"promoted_at": "2013-02-06"}}, "v1")})
    now = 39.0
    registrar.poll()
    assert registrar._process is None, "it took four seconds, and rests thirty-six"
    now = 40.5
    registrar.poll()
    again = registrar._process
    assert again is not None
    again.kill()
    again.wait()


def test_a_version_is_tied_to_its_data_and_streams_beside_the_store(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'run' / 'mlflow.db'}"
    registry, client = ModelRegistry(store), MlflowClient(store, store)
    dataset = {"name": "shop.m", "sha256": "ab" * 32, "source": {"vectors": {"uri": "lake/vectors", "version": "4"}}, "profile": {"rows": "12"}}
    documents: dict[str, dict[str, Any]] = {"lineage.json": {"streams": {"orders": {"topic": "orders"}}}, "record.json": {"version": "v1"}}
    tables: dict[str, dict[str, Any]] = {"trials.json": {"columns": ["trial", "loss"], "data": [[0, 0.4], [1, None]]}}
    for _ in range(2):  # As after a crash: said again.
        registry.record("shop", "m", "v1", "artifacts/v1", TAGS, {}, {}, "passed: better", "Which orders to check.", dataset, documents, tables)
    experiment = client.get_experiment_by_name("shop")
    assert experiment is not None and experiment.artifact_location == (tmp_path / "run" / "mlflow-artifacts").as_uri()
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.data.tags["mlflow.note.content"], run.data.tags["mlflow.user"]) == ("passed: better", TAGS["owner"])
    assert json.loads(run.data.tags["mlflow.loggedArtifacts"]) == [{"path": "trials.json", "type": "table"}]
    assert run.inputs is not None
    (shown,) = run.inputs.dataset_inputs
    assert (shown.dataset.name, shown.dataset.digest, json.loads(shown.dataset.source)) == ("shop.m", "ab" * 18, dataset["source"])
    assert {tag.key: tag.value for tag in shown.tags} == {"mlflow.data.context": "training", "sha256": "ab" * 32}
    files = {path.name: json.loads(path.read_text()) for path in (tmp_path / "run" / "mlflow-artifacts").rglob("*.json")}
    assert files == documents | tables
    (version,) = client.search_model_versions("name = 'shop.m'")
    assert version.description == "passed: better" and client.get_registered_model("shop.m").description == "Which orders to check."


def test_a_version_that_the_registry_does_not_know_is_named(uri: str) -> None:
    with pytest.raises(LookupError, match="expected version v9 of shop\\.m"):
        ModelRegistry(uri).deployed("shop", "m", {"v9": {"promoted_at": "2013-02-05"}}, "v9")


def test_what_a_registry_that_is_away_was_not_told_it_is_told_later_also_by_the_next_process(uri: str, tmp_path: Path) -> None:
    """A training that ended meanwhile is recorded then."""
    record = {
        "model": "m",
        "version": "v9",
        "artifact_uri": "artifacts/v9",
        "tags": {**TAGS, "decision_id": "d9"},
        "parameters": {"family": "lightgbm"},
    }
    now = 0.0
    away = ProcessRegistrar(tmp_path, "late", "no-such-scheme://", clock=lambda: now)
    away.record("d9", {**record, "metrics": {"auc": 0.8}})
    away.record("d9", {**record, "metrics": {"auc": 0.8}})
    away.poll()
    assert away._process is not None and away._process.wait(patient(60)) != 0
    away.poll()
    now = 9.0
    away.poll()
    assert away._process is None, "a child costs five CPU seconds: never more often than every ten"
    now = 10.5
    away.poll()
    again = away._process
    assert again is not None
    again.kill()
    again.wait()
    registrar = ProcessRegistrar(tmp_path, "late", uri)
    registrar.want({"m": ServiceTimes({"v9": {"promoted_at": "2013-02-05"}}, "v9")})
    registrar.poll()
    assert registrar._process is not None
    assert registrar._process.wait(patient(60)) == 0, (tmp_path / "registrar.log").read_text()
    registrar.poll()
    assert registrar._process is None, "the queue is empty"
    champion = MlflowClient(uri, uri).get_model_version_by_alias("late.m", "champion")
    assert (champion.tags["version"], champion.tags["promoted_at"], champion.tags["decision_id"]) == ("v9", "2013-02-05", "d9")
