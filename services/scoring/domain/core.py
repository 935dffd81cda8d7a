"""Scoring: every request gets exactly one prediction per model that asks its stream, whatever happens to the model."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.services.scoring.domain.panel import Panel, Serving
from tidemill.shared.application.plan import Plan


@dataclass(frozen=True, slots=True)
class Predictions:
    """The answers to a batch.

    Attributes
    ----------
    batch
        Columns of the prediction schema: request after request in the order of the vectors, for each the models in the order of the application
        file, so that the order does not depend on the batching.
    requests : int64 array, shape (batch.num_rows,)
        Row of the vector that each prediction answers.
    """

    batch: pa.RecordBatch
    requests: NDArray[np.int64]


class ScoringCore:
    """Turns vectors into predictions. Pure; switches of models happen between calls.

    Parameters
    ----------
    models
        Which of the plan's models answer; all by default.
    """

    def __init__(self, plan: Plan, models: Collection[str] | None = None) -> None:
        chosen = [model for name, model in plan.models.items() if models is None or name in models]
        self._asked = {ask: [model for model in chosen if model.ask == ask] for ask in dict.fromkeys(model.ask for model in chosen)}
        self._streams = len(plan.asking_streams)
        self._panels: dict[str, Panel] = {}

    def process(self, vectors: pa.RecordBatch, serving: Mapping[str, Serving]) -> Predictions:
        """Return the predictions of every model.

        Parameters
        ----------
        vectors
            Columns of the plan's vector schema.
        serving
            By model; a model without an entry answers with its default.
        """
        parts, requests = [], []
        for ask in self._asked:
            panel = self._panel(ask, serving)
            rows = np.arange(vectors.num_rows)
            if self._streams > 1:
                rows = np.flatnonzero(pc.equal(vectors.column("_ask"), ask).to_numpy(zero_copy_only=False))
            parts.append(panel.answer(vectors if len(rows) == vectors.num_rows else vectors.take(pa.array(rows))))
            requests.append(np.repeat(rows, len(panel.serving)))
        if len(parts) == 1:
            return Predictions(parts[0], requests[0])
        order = np.argsort(np.concatenate(requests), kind="stable")
        return Predictions(pa.concat_batches(parts).take(pa.array(order)), np.concatenate(requests)[order])

    def _panel(self, ask: str, serving: Mapping[str, Serving]) -> Panel:
        models = self._asked[ask]
        now = tuple(serving.get(model.name) or Serving(threshold=model.settings.threshold) for model in models)
        panel = self._panels.get(ask)
        if panel is None or panel.serving != now:
            panel = self._panels[ask] = (panel and panel.revised(now)) or Panel(models, now)
        return panel
