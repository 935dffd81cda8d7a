"""What a multiclass model answers: a probability for each class, the likeliest class and its name."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.shared.application.plan import ModelPlan

SCORES = pa.map_(pa.string(), pa.field("value", pa.float64(), nullable=False))
"""Type of the answers' `scores`: probability by class."""


class ClassAnswers:
    """The multiclass models of a panel: from their tables of probabilities to columns of answers.

    Parameters
    ----------
    models
        All models of the panel, in its order.
    """

    def __init__(self, models: Sequence[ModelPlan]) -> None:
        self.models = {i: model for i, model in enumerate(models) if model.kind.classes}
        self._defaults = {i: model.kind.default_scores(model.settings.fallback.default) for i, model in self.models.items()}
        self._counts = np.array([len(model.kind.classes) for model in models])
        self._first = np.cumsum(self._counts) - self._counts
        self._names = pa.array([name for model in models for name in model.kind.classes] + [None], pa.string())

    def settle(self, model: int, table: NDArray[np.float64] | None, n: int) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.bool_]]:
        """Return what is answered: probabilities, shape (n, K), classes, and which rows the fallback answers, shape (n,).

        Parameters
        ----------
        model
            Place in the panel.
        table
            What the model scores, shape (n, K); None without a model.
        """
        kind, default = self.models[model].kind, self._defaults[model]
        if table is None:
            return np.broadcast_to(default, (n, len(default))), np.repeat(kind.decide(default[None], 0.0), n), np.ones(n, np.bool_)
        degraded = ~kind.is_score(table)
        answered = np.where(degraded[:, None], default, table)
        return answered, kind.decide(answered, 0.0), degraded

    def scores(self, tables: Mapping[int, NDArray[np.float64]], n: int) -> pa.Array:
        """Return the probabilities by class of n requests and all models, shape (n * models,); null for other kinds."""
        if not tables:
            return pa.nulls(n * len(self._counts), SCORES)
        counts = np.tile(self._counts, n)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        keys = self._names.take(pa.array(np.tile(np.arange(len(self._names) - 1), n)))
        values = np.concatenate([tables[i] for i in self.models], axis=1).ravel()
        mask = pa.array(counts == 0) if len(tables) < len(self._counts) else None
        return pa.MapArray.from_arrays(pa.array(offsets), keys, pa.array(values), SCORES, mask=mask)

    def names(self, predicted: NDArray[np.int32]) -> pa.Array:
        """Return the names of predicted classes, shape (n * models,), from their indices, shape (n, models); null for other kinds."""
        if not self.models:
            return pa.nulls(predicted.size, pa.string())
        return self._names.take(pa.array(np.where(self._counts > 0, self._first + predicted, len(self._names) - 1).ravel()))
