"""What a multiclass model answers: a probability for each class, the likeliest class and its name."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.scoring.domain.serving import Serving
from tidemill.shared.application.plan import ModelPlan

SCORES = pa.map_(pa.string(), pa.field("value", pa.float64(), nullable=False))
"""Type of the answers' `scores`: probability by class."""
NO_CLASS = -1
"""What is predicted where no class can be answered."""


class SettledClasses(NamedTuple):
    """What a model answers to n requests.

    Attributes
    ----------
    table : shape (n, K)
        Probabilities; NaN of a class that the version which answers does not know, and of all where no class is answered.
    score, predicted, degraded : shape (n,)
        Probability and index of the likeliest class (0 and `NO_CLASS` without any), and which rows the fallback answers.
    """

    table: NDArray[np.float64]
    score: NDArray[np.float64]
    predicted: NDArray[np.int32]
    degraded: NDArray[np.bool_]


def with_learned_classes(model: ModelPlan, serving: Serving) -> ModelPlan:
    """Return the plan of a model that learns its classes with those that champion and challenger know; any other plan as it is.

    A version has the classes of every version before it, and perhaps more at their end: whichever knows more knows all.
    """
    if not model.learns_classes:
        return model
    challenger = None if serving.challenge is None else serving.challenge.serving.scorer
    known = [scorer.kind.classes for scorer in (serving.scorer, challenger) if scorer is not None]
    return model.with_classes(max(known, key=len, default=()))


class ClassAnswers:
    """The multiclass models of a panel: from their tables of probabilities to columns of answers.

    Parameters
    ----------
    models
        All models of the panel, in its order, with the classes that are known of those that learn them.
    """

    def __init__(self, models: Sequence[ModelPlan]) -> None:
        self.models = {i: model for i, model in enumerate(models) if model.kind.has_classes}
        self._defaults = {i: _default(model) for i, model in self.models.items()}
        self._counts = np.array([len(model.kind.classes) for model in models])
        self._first = np.cumsum(self._counts) - self._counts
        self._names = pa.array([name for model in models for name in model.kind.classes] + [None], pa.string())

    def settle(self, model: int, table: NDArray[np.float64] | None, n: int) -> SettledClasses:
        """Return what is answered.

        Parameters
        ----------
        model
            Place in the panel.
        table
            What the model scores, shape (n, K), or with the first of the classes only; None without a model.
        """
        kind, default = self.models[model].kind, self._defaults[model]
        answered: NDArray[np.float64] = np.broadcast_to(default, (n, len(default)))
        degraded = np.ones(n, np.bool_)
        if table is not None:
            degraded = ~kind.is_score(table)
            known = np.full((n, len(default)), np.nan)
            known[:, : table.shape[1]] = table
            answered = np.where(degraded[:, None], default, known)
        if not len(default):
            return SettledClasses(answered, np.zeros(n), np.full(n, NO_CLASS, np.int32), degraded)
        predicted = kind.decide(np.where(np.isnan(answered), -np.inf, answered), 0.0)
        score = np.take_along_axis(answered, predicted[:, None], axis=1)[:, 0]
        nothing = np.isnan(score)
        return SettledClasses(answered, np.where(nothing, 0.0, score), np.where(nothing, NO_CLASS, predicted).astype(np.int32), degraded)

    def scores(self, tables: Mapping[int, NDArray[np.float64]], n: int) -> pa.Array:
        """Return the probabilities by class of n requests and all models, shape (n * models,).

        Null for other kinds and where no class is answered; a class that the version does not know is left out.
        """
        if not tables:
            return pa.nulls(n * len(self._counts), SCORES)
        counts = np.tile(self._counts, n)
        keys = np.tile(np.arange(len(self._names) - 1), n)
        values = np.concatenate([tables[i] for i in self.models], axis=1).ravel()
        known = ~np.isnan(values)
        if not known.all():
            counts = np.bincount(np.repeat(np.arange(len(counts)), counts)[known], minlength=len(counts))
            keys, values = keys[known], values[known]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        mask = pa.array(counts == 0) if (counts == 0).any() else None
        return pa.MapArray.from_arrays(pa.array(offsets), self._names.take(pa.array(keys)), pa.array(values), SCORES, mask=mask)

    def names(self, predicted: NDArray[np.int32]) -> pa.Array:
        """Return the names of predicted classes, shape (n * models,), from their indices, shape (n, models); null for other kinds and `NO_CLASS`."""
        if not self.models:
            return pa.nulls(predicted.size, pa.string())
        named = (self._counts > 0) & (predicted != NO_CLASS)
        return self._names.take(pa.array(np.where(named, self._first + predicted, len(self._names) - 1).ravel()))


def _default(model: ModelPlan) -> NDArray[np.float64]:
    """Return the probabilities that the fallback answers; of classes that are learned none."""
    default, kind = model.settings.fallback.default, model.kind
    return np.full(len(kind.classes), np.nan) if default is None else kind.default_scores(default)
