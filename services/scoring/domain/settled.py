"""What the models of a panel answer, before it is decided whose answer is served."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class SlotAnswers:
    """Answers of n requests in slots: the models' champions in the order of the panel, then the challengers.

    Attributes
    ----------
    scores, predicted, degraded : shape (n, slots)
        Where a slot is degraded, its model has no score and these are the fallback's.
    tables
        Probabilities by class, shape (n, K), by slot of a multiclass model.
    errors : shape (n, slots, 2)
        Expected absolute and squared error, NaN where a model does not say; None where none does.
    took_ns
        What each slot took to score them, measured, shape (slots,); zero where it is not.
    """

    scores: NDArray[np.float64]
    predicted: NDArray[np.int32]
    degraded: NDArray[np.bool_]
    tables: Mapping[int, NDArray[np.float64]]
    errors: NDArray[np.float64] | None = None
    took_ns: NDArray[np.int64] | None = None

    def chosen(self, slots: NDArray[np.int64]) -> "SlotAnswers":
        """Return what is served: of each request and model the answer of one slot, shape (n, models)."""
        tables = {}
        for model in (model for model in self.tables if model < slots.shape[1]):
            tables[model] = self.tables[model]
            for other in np.unique(slots[:, model]).tolist():
                if other != model:
                    tables[model] = np.where((slots[:, model] == other)[:, None], self.tables[other], tables[model])
        scores, predicted = np.take_along_axis(self.scores, slots, axis=1), np.take_along_axis(self.predicted, slots, axis=1)
        errors = None if self.errors is None else np.take_along_axis(self.errors, slots[..., None], axis=1)
        return SlotAnswers(scores, predicted, np.take_along_axis(self.degraded, slots, axis=1), tables, errors)
