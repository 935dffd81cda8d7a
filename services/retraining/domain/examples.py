"""Labelled rows in memory, and how they are cut along time so that nothing is judged on what it learned from."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.shared.kinds.kind import Kind
from tidemill.shared.statistics.propensity import Weights, of_rows

DAY_MS = 86_400_000
_MATURED = 0.95
_FEW = 100
_KEPT_OF_THE_RARE = 2_000
Stretches = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows of a training set.

    Attributes
    ----------
    features : record batch, n rows
    request_ms, label_ms : int64 arrays, shape (n,)
        When the request and its label became available.
    labels : float64 array, shape (n,)
    weights : float64 array, shape (n,)
        How many requests each row stands for, where the labels of others are hidden; None where each stands for itself.
    left_out
        Begin and end of stretches of requests whose rows are not among these: windows of history reach so much farther back.
    """

    features: pa.RecordBatch
    request_ms: NDArray[np.int64]
    label_ms: NDArray[np.int64]
    labels: NDArray[np.float64]
    weights: Weights = None
    left_out: Stretches = ()

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, chosen: NDArray[np.bool_]) -> "Examples":
        """Return the chosen rows."""
        features = self.features.filter(pa.array(chosen))
        weights = of_rows(self.weights, chosen)
        return Examples(features, self.request_ms[chosen], self.label_ms[chosen], self.labels[chosen], weights, self.left_out)

    def window_begin(self, last_ms: int, window_days: int) -> int:
        """Return where a window of days of history begins that ends at an instant (0: all history).

        Time that is left out does not count, nor does time that brought no labelled row for longer than half of the window: after an outage of the
        labels a recipe of so many days would be fitted on the few rows that are left of them, and no trial has judged it so.

        >>> asked = DAY_MS // 4 * np.array([*range(20), *range(28, 40)])
        >>> features = pa.RecordBatch.from_pydict({"x": np.zeros(32)})
        >>> rows = Examples(features, asked, asked, np.zeros(32), None, ((5 * DAY_MS, 7 * DAY_MS),))
        >>> [rows.window_begin(10 * DAY_MS, days) / DAY_MS for days in (2, 3, 4, 6)]
        [8.0, 7.0, 4.0, 2.0]
        """
        if not window_days:
            return int(np.iinfo(np.int64).min)
        begin = last_ms - window_days * DAY_MS
        left_out = {(start, min(end, last_ms)) for start, end in self.left_out if start < last_ms}
        ends = np.array([last_ms, *(mark for stretch in left_out for mark in stretch)], np.int64)
        marks = np.unique(np.concatenate([self.request_ms[self.request_ms < last_ms], ends]))
        silent = np.flatnonzero(np.diff(marks) > window_days * DAY_MS / 2)
        for start, end in sorted(left_out | set(zip(marks[silent].tolist(), marks[silent + 1].tolist(), strict=True)), reverse=True):
            if end > begin:
                begin -= end - start
        return begin

    def thinning(self, limit: int, kind: Kind) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the places of at most `limit` rows, of each class evenly spread over time, and their weights.

        Each class keeps its share, but a rare one at least 2,000 rows, or all it has: a thousandth of 25,000 rows is too few to learn from. (Of many
        classes all together at least half of the limit.) The weights restore the shares, times those that the rows have; their mean is 1.
        """
        places, weights = self._thinned(limit, kind)
        if self.weights is None:
            return places, weights
        weights = weights * self.weights[places]
        return places, weights / weights.mean()

    def _thinned(self, limit: int, kind: Kind) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        if len(self) <= limit or kind.name == "regression":
            places = _spread(np.arange(len(self), dtype=np.int64), min(limit, len(self)))
            return places, np.ones(len(places))
        classes = [np.flatnonzero(self.labels == label) for label in np.unique(self.labels)]
        sizes = np.array([len(rows) for rows in classes])
        sure = np.minimum(sizes, min(_KEPT_OF_THE_RARE, limit // (2 * len(classes))))
        kept = sure + (limit - sure.sum()) * (sizes - sure) // max(1, int((sizes - sure).sum()))
        parts = [_spread(rows, count) for rows, count in zip(classes, kept.tolist(), strict=True)]
        weights = np.concatenate([np.full(len(part), len(whole) / len(part)) for part, whole in zip(parts, classes, strict=True)])
        places = np.concatenate(parts)
        order = np.argsort(places)
        return places[order], weights[order] / weights.mean()


def _spread(places: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    return places[np.arange(count, dtype=np.int64) * len(places) // max(1, count)]


def label_horizon_ms(examples: Examples, before_ms: int, max_delay_ms: int, silence_is_a_label: bool) -> int:
    """Return how old a request must be for what is known of its label to be a fair sample.

    Where silence is a label (no chargeback within two days means no fraud), one class comes early and the other at the time-out: only when that
    has passed are both known. Otherwise it is the 95 % quantile of the delay, of requests whose time-out has passed if there are a hundred:
    what is known of younger ones are the early labels.

    Parameters
    ----------
    before_ms
        The cut: what was available then.
    max_delay_ms
        Time-out of a label.
    """
    if silence_is_a_label:
        return max_delay_ms
    delays = examples.label_ms - examples.request_ms
    complete = delays[examples.request_ms < before_ms - max_delay_ms]
    return int(np.quantile(complete if len(complete) >= _FEW else delays, _MATURED))


@dataclass(frozen=True, slots=True)
class Split:
    """Instants that part training, validation and gate; `end` is the cut, before which everything was known.

    Labels of recent requests are still missing, and the early ones among them are not a fair sample: survivors. Whoever learns or judges at an
    instant therefore takes requests that were older then than the horizon (`label_horizon_ms`).
    """

    horizon_ms: int
    validation_start: int
    validation_end: int
    gate_start: int
    gate_end: int
    end: int

    @classmethod
    def of(cls, before_ms: int, holdout_days: float, horizon_ms: int, gate_ms: int | None = None) -> "Split":
        """Cut what was known before an instant; the gate's part is as long as the validation's, or `gate_ms`."""
        gate_end = before_ms - horizon_ms
        holdout_ms = round(holdout_days * DAY_MS)
        gate_start = gate_end - (holdout_ms if gate_ms is None else gate_ms)
        validation_end = gate_start - horizon_ms
        return cls(horizon_ms, validation_end - holdout_ms, validation_end, gate_start, gate_end, before_ms)

    def learned_until(self, end_ms: int) -> int:
        """Return the instant before which requests are learned from by whoever learns at `end_ms`."""
        return end_ms - self.horizon_ms

    def learning(self, examples: Examples, end_ms: int, window_days: int) -> Examples:
        """Rows whose horizon had passed at `end_ms` and whose label was known then, of the last days before (0: all)."""
        last = self.learned_until(end_ms)
        begin = examples.window_begin(last, window_days)
        return examples.where((examples.label_ms < end_ms) & (examples.request_ms < last) & (examples.request_ms >= begin))

    def validation(self, examples: Examples) -> Examples:
        """Rows candidates of the search are compared on."""
        known = examples.label_ms < self.gate_start
        return examples.where(known & (examples.request_ms >= self.validation_start) & (examples.request_ms < self.validation_end))

    def gate(self, examples: Examples, learned_until_ms: int) -> Examples:
        """Rows that neither the candidate nor the champion (`learned_until_ms`) learned from."""
        begin = max(self.gate_start, learned_until_ms)
        return examples.where((examples.request_ms >= begin) & (examples.request_ms < self.gate_end))
