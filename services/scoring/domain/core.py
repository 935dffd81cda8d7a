"""Scoring: every request gets exactly one prediction per model that asks its stream, whatever happens to the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shared.application.plan import ModelPlan, Plan


class Scorer(Protocol):
    """A loaded model."""

    def score(self, batch: pa.RecordBatch) -> NDArray[np.float64]:
        """Return one score per row."""
        ...


@dataclass(frozen=True, slots=True)
class Serving:
    """What answers for a model at the moment: a scorer, or the reason why there is none."""

    version: str = "default"
    deployment_sequence: int = -1
    threshold: float = 0.5
    scorer: Scorer | None = None
    reason: str | None = "no_model"


class ScoringCore:
    """Turns vectors into predictions. Pure; switches of models happen between calls."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def process(self, vectors: pa.RecordBatch, serving: Mapping[str, Serving]) -> dict[str, pa.RecordBatch]:
        """Return the predictions of every model, in the order of the vectors.

        Parameters
        ----------
        vectors
            Columns of the plan's vector schema.
        serving
            By model; a model without an entry answers with its default.
        """
        answers = {}
        for name, model in self._plan.models.items():
            asked = vectors if len(self._plan.asking_streams) == 1 else vectors.filter(pc.equal(vectors.column("_ask"), model.ask))
            answers[name] = self._answer(model, asked, serving.get(name, Serving()))
        return answers

    def _answer(self, model: ModelPlan, vectors: pa.RecordBatch, serving: Serving) -> pa.RecordBatch:
        n = vectors.num_rows
        scores, failed = self._scores(serving, vectors)
        default = np.full(n, serving.scorer is None) if failed is None else failed
        scores = np.where(default, model.settings.fallback.default, scores)
        why = serving.reason if serving.scorer is None else "model_failed"
        predicted = (scores >= serving.threshold).astype(np.int32) if model.settings.kind == "binary" else np.zeros(n, np.int32)
        return pa.RecordBatch.from_pydict(
            {
                "request_id": vectors.column("_request_id"),
                "model": pa.array([model.name] * n, pa.string()),
                "journal_partition": vectors.column("_journal_partition"),
                "journal_offset": vectors.column("_journal_offset"),
                "journal_time": vectors.column("_journal_time"),
                "event_time": vectors.column("_event_time"),
                "score": pa.array(scores),
                "predicted": pa.array(predicted),
                "model_version": pa.array(np.where(default, "default", serving.version).tolist(), pa.string()),
                "deployment_sequence": pa.array(np.full(n, serving.deployment_sequence, np.int64)),
                "variant": pa.array(np.where(default, "default", "champion").tolist(), pa.string()),
                "reason": pa.array([why if bad else None for bad in default.tolist()], pa.string()),
            }
        )

    @staticmethod
    def _scores(serving: Serving, vectors: pa.RecordBatch) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
        """Return scores and which of them are none: a model that fails or gives no finite number answers with the default."""
        n = vectors.num_rows
        if serving.scorer is None or n == 0:
            return np.zeros(n), None
        scores = serving.scorer.score(vectors)
        return scores, ~np.isfinite(scores)
