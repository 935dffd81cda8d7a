"""Labelled rows in memory, and how they are cut along time so that nothing is judged on what it learned from."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

DAY_MS = 86_400_000
_MATURED = 0.95


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows of a training set.

    Attributes
    ----------
    features : record batch, n rows
    request_ms, label_ms : int64 arrays, shape (n,)
        When the request and its label became available.
    labels : float64 array, shape (n,)
    """

    features: pa.RecordBatch
    request_ms: NDArray[np.int64]
    label_ms: NDArray[np.int64]
    labels: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, chosen: NDArray[np.bool_]) -> "Examples":
        """Return the chosen rows."""
        return Examples(self.features.filter(pa.array(chosen)), self.request_ms[chosen], self.label_ms[chosen], self.labels[chosen])

    def thinned(self, limit: int) -> "Examples":
        """Return at most about `limit` rows, evenly spread over time."""
        chosen = np.zeros(len(self), np.bool_)
        chosen[:: max(1, -(-len(self) // limit))] = True
        return self.where(chosen)


@dataclass(frozen=True, slots=True)
class Split:
    """Instants that part training, validation and gate; `end` is the cut, before which everything was known.

    Labels of recent requests are still missing, and the early ones among them are not a fair sample. Each part therefore ends one label
    delay (95 % quantile) before the next begins to be known.
    """

    validation_start: int
    validation_end: int
    gate_start: int
    gate_end: int
    end: int

    @classmethod
    def of(cls, examples: Examples, before_ms: int, holdout_days: int) -> "Split":
        """Cut the examples known before an instant."""
        delay = int(np.quantile(examples.label_ms - examples.request_ms, _MATURED))
        gate_end = before_ms - delay
        gate_start = gate_end - holdout_days * DAY_MS
        validation_end = gate_start - delay
        return cls(validation_end - holdout_days * DAY_MS, validation_end, gate_start, gate_end, before_ms)

    def learning(self, examples: Examples, end_ms: int, window_days: int) -> Examples:
        """Rows whose labels were known before `end_ms`, of the last days (0: all)."""
        begin = end_ms - window_days * DAY_MS if window_days else np.iinfo(np.int64).min
        return examples.where((examples.label_ms < end_ms) & (examples.request_ms >= begin))

    def validation(self, examples: Examples) -> Examples:
        """Rows candidates of the search are compared on."""
        known = examples.label_ms < self.gate_start
        return examples.where(known & (examples.request_ms >= self.validation_start) & (examples.request_ms < self.validation_end))

    def gate(self, examples: Examples, learned_until_ms: int) -> Examples:
        """Rows that neither the candidate nor the champion (`learned_until_ms`) learned from."""
        begin = max(self.gate_start, learned_until_ms)
        return examples.where((examples.request_ms >= begin) & (examples.request_ms < self.gate_end))
