"""An application of meters that answers with one of three classes, with classes that it learns or with a number; its data as files, and a trainer."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tests.linear_models import linear_artifact
from tidemill.services.retraining.processes.job_files import JobRequest, JobResult, version_name
from tidemill.services.retraining.processes.trainer import Trainer
from tidemill.shared.models.artifacts import ArtifactStore

START = 1_700_000_000_000
STEP_MS = 1_800_000
SLICE_MS = 24 * STEP_MS
"""Of a backtest: what is usual, a hundredth of the rows, takes three times the work and finds the same."""
DELAY_MS = 5 * 3_600_000
CLASSES = ("cold", "mild", "hot")
WEIGHTS = {"multiclass": np.array([[2.0, -1.0, -1.0], [0.0, 2.0, -2.0]]), "regression": np.array([[3.0], [-2.0]])}
LEARNED, NEW_FROM = ("cold", "hot", "mild", "storm"), 600
"""Classes of the kind `learned`: the last one comes from a row on, and one more, hail, hardly ever."""
_MODELS = {
    "learned": "kind: multiclass\n    classes: learned",
    "multiclass": "kind: multiclass\n    classes: [cold, mild, hot]\n    fallback: {default: mild}\n    drift: {floors: {accuracy: 0.4}}",
    "regression": "kind: regression\n    fallback: {default: 0.0}\n    drift: {ceilings: {mean_absolute_error: 3}}",
}
_APP = """
app: meters
owner: meters@example.org
partition_by: reading_id
streams:
  readings: {topic: readings, schema: reading.avsc, event_id: reading_id, event_time: at}
  truths: {topic: truths, schema: truth.avsc, event_id: reading_id, event_time: at}
models:
  heat:
    KIND
    ask: readings
    features: [f0, f1]
    label: {stream: truths, join: reading_id, value: truth, max_delay: 1d}
    retraining: {bootstrap_labels: 200, cool_down: 1d, schedule: 4d, budget_per_30d: 10}
    training: {holdout_days: 2, min_rows: 100, trials: 2}
    gate: {min_rows: 50}
"""


def application(folder: Path, kind: str) -> Path:
    """Write the application."""
    folder.mkdir(parents=True)
    stamp = {"type": "long", "logicalType": "timestamp-millis"}
    truth = "double" if kind == "regression" else "string"
    for name, fields in {"reading": {"at": stamp, "f0": "double", "f1": "double"}, "truth": {"at": stamp, "truth": truth}}.items():
        columns = [{"name": "reading_id", "type": "string"}, *({"name": column, "type": kind_} for column, kind_ in fields.items())]
        (folder / f"{name}.avsc").write_text(json.dumps({"type": "record", "name": name.title(), "fields": columns}))
    (folder / "app.yaml").write_text(_APP.replace("KIND", _MODELS[kind]))
    return folder


def files(folder: Path, kind: str, rows: int = 1_500, seed: int = 0) -> list[str]:
    """Write readings half an hour apart, and the truth of nine of ten five hours later."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(rows, 2)).astype(np.float32).astype(float)
    truth = _learned_truth(features, generator) if kind == "learned" else _truth(kind, features @ WEIGHTS[kind], generator)
    at = START + STEP_MS * np.arange(rows)
    ids = [f"r{i}" for i in range(rows)]
    pd.DataFrame({"reading_id": ids, "at": at, "f0": features[:, 0], "f1": features[:, 1]}).to_csv(folder / "readings.csv", index=False)
    known = np.flatnonzero(generator.random(rows) < 0.9)
    told = pd.DataFrame({"reading_id": [ids[i] for i in known], "at": at[known] + DELAY_MS, "truth": truth[known]})
    told.to_csv(folder / "truths.csv", index=False)
    return [f"readings={folder / 'readings.csv'}", f"truths={folder / 'truths.csv'}"]


def _truth(kind: str, line: NDArray[np.float64], generator: np.random.Generator) -> NDArray[Any]:
    if kind == "multiclass":
        return np.asarray(np.array(CLASSES, object)[np.argmax(line + generator.gumbel(size=line.shape), axis=1)])
    return np.asarray(line[:, 0] + generator.normal(size=len(line)))


def _learned_truth(features: NDArray[np.float64], generator: np.random.Generator) -> NDArray[Any]:
    """Draw the classes and move each row's features to where its class is."""
    rows = len(features)
    late = np.arange(rows) >= NEW_FROM
    truth = np.where(late & (generator.random(rows) < 0.25), 3, generator.choice(3, rows, p=[0.22, 0.33, 0.45]))
    features += np.array([[-2.5, 0.0], [2.5, 0.0], [0.0, 0.0], [0.0, 3.0]])[truth]
    names: NDArray[Any] = np.array(LEARNED, object)[truth]
    names[100::240] = "hail"
    return names


class LinearTrainer(Trainer):
    """Trainer whose models come closer to the true weights each time; every third one is refused."""

    def __init__(self, kind: str, artifacts: ArtifactStore) -> None:
        self._kind, self._artifacts = kind, artifacts
        self._request: JobRequest | None = None
        self.trained = 0

    def start(self, request: JobRequest) -> None:
        """Begin one."""
        self._request = request

    def poll(self) -> JobResult:
        """Return its result."""
        if self._request is None:
            raise RuntimeError("expected a training, none was started")
        self.trained += 1
        version = version_name(self._request.retraining)
        noise = np.random.default_rng(self.trained).normal(0, 2.0 / self.trained, WEIGHTS[self._kind].shape)
        classes = CLASSES if self._kind == "multiclass" else ()
        changes = {"interval_lower": -1.7, "interval_upper": 1.7} if self._kind == "regression" else {}
        made = linear_artifact(self._kind, WEIGHTS[self._kind] + noise, version, classes, model="heat", **changes)
        address, passed = self._artifacts.put(made.to_bytes()), self.trained % 3 != 0
        figures = {"log_loss": 0.5, "champion_log_loss": 0.6, "p_value": 0.01}
        return JobResult(
            finished=True, reason="because", version=version, passed=passed,
            artifact_sha256=address, artifact_uri=self._artifacts.uri_of(address),
            figures=figures, details={"family": "linear"},
        )  # fmt: skip
