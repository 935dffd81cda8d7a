"""The changed application beside the running one over one archive: the same requests, the figures of an independent oracle."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from tests.linear_models import linear_artifact
from tests.unit.tidemill.planning.one_process import APP, COUNTED, SECOND, OneProcess, Trainer, write
from tidemill.planning.running_application import RunningApplication, of_folder
from tidemill.planning.trial import TrialRefusedError, try_changes
from tidemill.planning.trial_figures import compared
from tidemill.services.retraining.processes.job_files import JobResult, version_name
from tidemill.shared.application.planning import load_plan
from tidemill.shared.lake.tables import Lake
from tidemill.shared.models.artifacts import ArtifactStore

DAY = 86_400_000


def outcomes(scores: np.ndarray, labels: np.ndarray, first: int = 0) -> pa.Table:
    n = len(scores)
    return pa.table(
        {
            "model": ["faulty"] * n,
            "journal_partition": pa.array([0] * n, pa.int32()),
            "request_journal_offset": np.arange(first, first + n),
            "request_journal_time": np.arange(first, first + n) * DAY // 40,
            "score": scores,
            "predicted": (scores > 0.5).astype(np.int32),
            "deployment_sequence": np.where(np.arange(n) < 10, -1, 3),
            "status": ["labelled"] * n,
            "label": labels,
            "revision": pa.array([0] * n, pa.int32()),
            "scores": pa.nulls(n),
        }
    )


def test_figures_are_those_of_the_requests_that_both_answered(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    model = load_plan(write(tmp_path / "app")).models["faulty"]
    labels = (random.random(1_000) < 0.4).astype(float)
    good = np.clip(0.3 + 0.4 * labels + random.normal(0, 0.15, 1_000), 0.01, 0.99)
    bad = np.clip(0.3 + 0.1 * labels + random.normal(0, 0.15, 1_000), 0.01, 0.99)
    comparison = compared(model, model, outcomes(good, labels), outcomes(bad[100:], labels[100:], 100), Lake(str(tmp_path / "lake"), "meters"))
    own = slice(110, None)
    assert comparison["rows"] == 890 and comparison["metric"] == "auc"
    assert comparison["running"] == pytest.approx(roc_auc_score(labels[own], good[own])) and comparison["changed"] == pytest.approx(
        roc_auc_score(labels[own], bad[own])
    )
    assert comparison["gap"]["estimate"] == pytest.approx(comparison["changed"] - comparison["running"])
    assert comparison["loss"]["estimate"] == pytest.approx(log_loss(labels[own], bad[own]) - log_loss(labels[own], good[own]))
    assert comparison["gap"]["low"] < comparison["gap"]["estimate"] < comparison["gap"]["high"] < 0 < comparison["loss"]["low"]
    same = compared(model, model, outcomes(good, labels), outcomes(good, labels), Lake(str(tmp_path / "lake"), "meters"))
    assert same["rows"] == 990 and same["gap"] == same["loss"] == {"estimate": 0.0, "low": 0.0, "high": 0.0}


class WeightedTrainer(Trainer):
    """Models of the weights that an application was given; notes which models are asked for, by the number of the application's folder."""

    def __init__(self, folder: Path, weights: list[list[float]], trained: set[tuple[str, str]]) -> None:
        super().__init__(ArtifactStore(str(folder.parent / "artifacts")))
        self._number, self._weights, self._trained = folder.parent.name, np.array(weights), trained

    def poll(self) -> JobResult:
        assert self._request is not None
        self._trained.add((self._number, self._request.retraining["model"]))
        if self._request.retraining["model"] != "faulty":
            return super().poll()
        version = version_name(self._request.retraining)
        made = linear_artifact("binary", self._weights, version, (), model="faulty")
        address = self._artifacts.put(made.to_bytes())
        return JobResult(
            finished=True, reason="because", version=version, passed=True,
            artifact_sha256=address, artifact_uri=self._artifacts.uri_of(address), details={"family": "linear"}
        )  # fmt: skip


def test_both_are_run_over_the_archive_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its hundredth of the data takes four times the work.
    monkeypatch.setattr("tidemill.planning.trial.usual_slice_ms", lambda span_ms: span_ms // 25)
    run = OneProcess(tmp_path)
    sliced = APP.replace("    fallback: {default: 0.1}", "    slices: [meter]\n    fallback: {default: 0.1}")
    before = write(tmp_path / "one", sliced)
    run.start(before)
    run.publish(700)
    run.stages.write_out()
    run.stop()
    running = of_folder(before)
    running = RunningApplication(before, running.plan, running.content, lake=str(tmp_path / "lake"))
    changed = write(tmp_path / "two", sliced.replace(*COUNTED) + SECOND)
    seen: list[tuple[int, int]] = []
    trained: set[tuple[str, str]] = set()

    def trainer(folder: Path) -> Trainer:
        # The running application's folder is 0; the changed one's models look at half of what there is to see.
        return WeightedTrainer(folder, [[3.0], [-3.0]] if folder.parent.name == "0" else [[3.0], [0.0]], trained)

    trial = try_changes(running, changed, lambda given, total: seen.append((given, total)), trainer)
    faulty = trial["faulty"]
    assert faulty["rows"] > 400 and faulty["changed"] < faulty["running"] and faulty["gap"]["high"] < 0 < faulty["loss"]["low"]
    assert trained == {("0", "faulty"), ("1", "faulty"), ("1", "heat")}, "the added model is learned in the changed application alone"
    assert trial["heat"]["rows"] == 0 and "new" in trial["heat"]["why"]
    estimates = [one["loss"]["estimate"] for one in faulty["slices"]]
    assert faulty["slices"] and {one["slice"] for one in faulty["slices"]} <= {f"meter = m{i}" for i in range(3)}
    assert estimates == sorted(estimates, reverse=True)
    counts = [given for given, _ in seen]
    assert counts == sorted(counts) and json.dumps(trial)


def test_without_an_archive_nothing_is_tried(tmp_path: Path) -> None:
    folder = write(tmp_path / "one")
    with pytest.raises(TrialRefusedError, match="archived nothing"):
        try_changes(of_folder(folder), folder, lambda given, total: None)
