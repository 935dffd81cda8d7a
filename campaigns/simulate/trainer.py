"""Models and trainings of a simulation: small, seeded, the same for the same request."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from tests.linear_models import linear_artifact
from tidemill.services.retraining.domain.admissions import RECIPE
from tidemill.services.retraining.domain.first_stage import REFIT
from tidemill.services.retraining.processes.job_files import JobNews, JobRequest, JobResult, version_name
from tidemill.services.retraining.processes.trainer import Trainer
from tidemill.shared.application.plan import Plan
from tidemill.shared.models.artifacts import Artifact, ArtifactStore
from tidemill.shared.models.export import linear_to_onnx, logistic_to_onnx
from tidemill.shared.models.signature import Column, Signature
from tidemill.shared.models.training_record import TrainingRecord, TrainingRecords

_CANDIDATES = 3
_CHANNELS = ("web", "shop", "phone")
_NUMBERS = ("amount", "items")
_FIRST, _LATER = ("3", "bad"), ("7", "0", "5", "9")


@lru_cache(maxsize=8)
def candidates(features: tuple[tuple[str, str], ...]) -> tuple[bytes, ...]:
    """Return a few models of these features (name, type), as artifacts."""
    made = []
    for seed in range(_CANDIDATES):
        rng = np.random.default_rng(seed)
        n = len(features)
        means, scales, weights = rng.normal(size=n), rng.uniform(1, 50, n), rng.normal(size=n)
        bias = float(rng.normal())
        rows = rng.normal(size=(4, n)).astype(np.float32)
        standard = (rows.astype(np.float64) - means) / scales
        scores = 1 / (1 + np.exp(-(standard @ weights + bias)))
        codes = {value: float(place) for place, value in enumerate(_CHANNELS)}
        columns = tuple(Column(name=name, type=type_, codes=codes if type_ == "string" else {}) for name, type_ in features)
        signature = Signature(
            model="fraud",
            version=f"candidate-{seed}",
            family="logistic_regression",
            columns=columns,
            threshold=0.5,
            parity_rows=tuple(tuple(map(float, row)) for row in rows.tolist()),
            parity_scores=tuple(scores.tolist()),
            parity_tolerance=1e-4,
        )
        made.append(Artifact(signature, logistic_to_onnx(means, scales, weights, bias)).to_bytes())
    return tuple(made)


@lru_cache(maxsize=64)
def candidate_of_classes(classes: tuple[str, ...], seed: int) -> bytes:
    """Return a model of several classes, as an artifact: a softmax of what every order has, in the graph of a trained one, which can be explained."""
    n, width = len(_NUMBERS), len(classes)
    weights = np.random.default_rng([seed, width]).normal(0, 0.01, (n, width))
    columns = tuple(Column(name=name, type="double") for name in _NUMBERS)
    signature = linear_artifact("multiclass", weights, f"candidate-{seed}", classes, model="fraud", columns=columns).signature
    return Artifact(signature, linear_to_onnx(np.zeros(n), np.ones(n), weights.T, np.zeros(width), "softmax")).to_bytes()


class SeededTrainer(Trainer):
    """Trainer whose result follows from the request alone: which candidate, whether it passes, whether the champion goes back.

    A candidate counts as a refit or as a new recipe, so it begins as a canary or in shadow. A training takes a few polls, so that a
    process can die, or lose its partition, while one runs.
    """

    def __init__(self, plan: Plan, artifacts: ArtifactStore) -> None:
        self._plan, self._artifacts = plan, artifacts
        self._request: JobRequest | None = None
        self._left = 0
        self._news: list[JobNews] = []

    def start(self, request: JobRequest) -> None:
        """Begin one; the same one goes on."""
        if request != self._request:
            self._request, self._left = request, _draw(request) % 4

    def poll(self) -> JobResult | None:
        """Return the result, or None while it runs."""
        if self._request is None:
            raise RuntimeError("expected a training, none was started")
        if self._left:
            self._left -= 1
            self._news.append(JobNews("step", "simulated", {"left": str(self._left)}))
            return None
        drawn = _draw(self._request)
        asked = self._request.retraining
        version = version_name(asked)
        if drawn % 7 == 0:
            return JobResult(finished=False, reason="simulated: too few rows", version=version)
        model = self._plan.models[asked["model"]]
        types = {feature.name: feature.type for feature in self._plan.features}
        classes = _classes(self._request.classes, drawn) if model.learns_classes else None
        if classes is not None:
            content = candidate_of_classes(tuple(classes), drawn % _CANDIDATES)
        else:
            content = candidates(tuple((name, types[name]) for name in model.features))[drawn % _CANDIDATES]
        address = self._artifacts.put(content)
        # Versions share their bytes, which name none of them: the record tells which is which.
        made = {"artifact_sha256": address, "request": {}, "dataset": {}, "application_hash": "", "application": {}, "environment": {}}
        TrainingRecords(self._artifacts.uri).put(TrainingRecord(model=asked["model"], version=version, **made))
        passed = drawn % 3 != 0
        back = not passed and bool(self._request.predecessor) and drawn % 2 == 0
        details = {"seed": str(drawn), "admission": REFIT if drawn % 5 < 3 else RECIPE}
        return JobResult(
            finished=True, reason="simulated", version=version, passed=passed, roll_back=back,
            artifact_sha256=address, artifact_uri=self._artifacts.uri_of(address),
            figures={"auc": 0.5}, details=details, classes=classes,
        )  # fmt: skip

    def news(self) -> list[JobNews]:
        """Return the steps since the last call."""
        news, self._news = self._news, []
        return news


def _classes(known: Sequence[str], drawn: int) -> list[str]:
    """Return the classes of a candidate: those known, and every other time one more."""
    if not known:
        return list(_FIRST)
    new = [name for name in _LATER if name not in known]
    return [*known, *new[: drawn // 3 % 2]]


def _draw(request: JobRequest) -> int:
    text = f"{request.retraining['decision_id']}/{request.champion}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


class SilentRegistrar:
    """A registrar without a registry: the lifecycle log decides, the registry only shows."""

    def record(self, decision: str, record: object) -> None:
        """Take note."""

    def want(self, models: object) -> None:
        """Take note."""

    def poll(self) -> None:
        """Nothing to tell."""
