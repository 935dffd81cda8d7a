"""Scoring: every request gets exactly one prediction per model that asks its stream, whatever happens to the model."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.services.scoring.domain.panel import Panel, PanelAnswers
from tidemill.services.scoring.domain.scoring_times import PairTime
from tidemill.services.scoring.domain.serving import Serving
from tidemill.shared.application.plan import Plan
from tidemill.shared.log.packed import taken


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
    shadow_scores
        What champions and challengers said of the same requests, in the same order; None where no model has a challenger.
    shadowed : int64 array, shape (shadow_scores.num_rows,)
        Row of the vector that each shadow score is of.
    times
        What champions and challengers took to score the batch, where that is measured.
    """

    batch: pa.RecordBatch
    requests: NDArray[np.int64]
    shadow_scores: pa.RecordBatch | None = None
    shadowed: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    times: Sequence[PairTime] = ()


class ScoringCore:
    """Turns vectors into predictions. Pure; switches of models happen between calls.

    Parameters
    ----------
    models
        Which of the plan's models answer; all by default.
    clock_ns
        Monotonic, in nanoseconds: how long champions and challengers take is measured by it. None: nothing is. No answer depends on it.
    """

    def __init__(self, plan: Plan, models: Collection[str] | None = None, clock_ns: Callable[[], int] | None = None) -> None:
        chosen = [model for name, model in plan.models.items() if models is None or name in models]
        self._asked = {ask: [model for model in chosen if model.ask == ask] for ask in dict.fromkeys(model.ask for model in chosen)}
        self._streams = len(plan.asking_streams)
        self._panels: dict[str, Panel] = {}
        self._clock_ns = clock_ns

    def process(self, vectors: pa.RecordBatch, serving: Mapping[str, Serving], keys: Sequence[bytes | None] = ()) -> Predictions:
        """Return the predictions of every model, and the shadow scores of those with a challenger.

        Parameters
        ----------
        vectors
            Columns of the plan's vector schema.
        serving
            By model; a model without an entry answers with its default.
        keys
            Journal keys of the requests, by which those of a canary are chosen; needed where there is one.
        """
        parts: list[tuple[PanelAnswers, NDArray[np.int64]]] = []
        for ask in self._asked:
            panel = self._panel(ask, serving)
            rows = np.arange(vectors.num_rows)
            if self._streams > 1:
                rows = np.flatnonzero(pc.equal(vectors.column("_ask"), ask).to_numpy(zero_copy_only=False))
            whole = len(rows) == vectors.num_rows
            own = keys if whole or not panel.draws else taken(keys, rows)
            parts.append((panel.answer(vectors if whole else vectors.take(pa.array(rows)), own), rows))
        predictions = _in_order([(answers.predictions, rows) for answers, rows in parts])
        shadowed = [(answers.shadow_scores, rows) for answers, rows in parts if answers.shadow_scores is not None]
        times = [time for answers, _ in parts for time in answers.times]
        return Predictions(*predictions, *_in_order(shadowed), times) if shadowed else Predictions(*predictions)

    def _panel(self, ask: str, serving: Mapping[str, Serving]) -> Panel:
        models = self._asked[ask]
        now = tuple(serving.get(model.name) or Serving(threshold=model.settings.threshold) for model in models)
        panel = self._panels.get(ask)
        if panel is None or panel.serving != now:
            panel = self._panels[ask] = (panel and panel.revised(now)) or Panel(models, now, self._clock_ns)
        return panel


def _in_order(parts: Sequence[tuple[pa.RecordBatch, NDArray[np.int64]]]) -> tuple[pa.RecordBatch, NDArray[np.int64]]:
    """Return the records of several panels request after request, and the row of the vector that each is of.

    Parameters
    ----------
    parts
        Records, as many of each vector, and the vectors' rows.
    """
    requests = [np.repeat(rows, batch.num_rows // len(rows) if len(rows) else 0) for batch, rows in parts]
    if len(parts) == 1:
        return parts[0][0], requests[0]
    order = np.argsort(np.concatenate(requests), kind="stable")
    return pa.concat_batches([batch for batch, _ in parts]).take(pa.array(order)), np.concatenate(requests)[order]
