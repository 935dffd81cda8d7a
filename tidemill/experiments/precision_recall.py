"""Precision against recall, thinned for a chart."""

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.kinds.kind import Kind
from tidemill.shared.statistics.propensity import Weights

_POINTS = 80


def curve(kind: Kind, labels: NDArray[np.float64], scores: NDArray[np.float64], weights: Weights = None) -> list[list[float]]:
    """Return (recall, precision, threshold) from the highest threshold down; of several classes of all (row, class) pairs together.

    Rows count by their weights. Those of equal score are answered alike, so a point stands for each distinct score; of many some eighty are kept,
    evenly over recall. Regressions have none.
    """
    if kind.name == "regression":
        return []
    truth = labels > 0.5 if kind.name == "binary" else (labels[:, None] == np.arange(kind.width)).ravel()
    flat = scores.ravel()
    order = np.argsort(-flat, kind="stable")
    each = np.ones(len(flat)) if weights is None else np.repeat(weights, len(flat) // len(labels)) if len(labels) else np.ones(0)
    ordered, hits, answered = flat[order], np.cumsum(truth[order] * each[order]), np.cumsum(each[order])
    if not len(hits) or not hits[-1]:
        return []
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    recall, precision = hits[ends] / hits[-1], hits[ends] / answered[ends]
    kept = np.unique(np.searchsorted(recall, np.linspace(recall[0], 1.0, _POINTS)))
    return [[round(float(recall[i]), 5), round(float(precision[i]), 5), float(f"{ordered[ends[i]]:.5g}")] for i in kept]


def best_f1(points: list[list[float]]) -> tuple[float, float, float, float] | None:
    """Return F1, recall, precision and threshold where F1 is largest; None without points."""
    scored = [(2 * recall * precision / (recall + precision), recall, precision, at) for recall, precision, at in points if recall + precision > 0]
    return max(scored, default=None)
