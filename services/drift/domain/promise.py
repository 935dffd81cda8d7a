"""What a model's own probabilities promise, and what came: errors, the excess loss and its variance."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
_SURE = 1e-3


@dataclass(frozen=True, slots=True)
class Kept:
    """How far promises were kept, by row, shape (n,) each.

    Attributes
    ----------
    error, expected
        Whether the class predicted was wrong, 0 or 1, and the probability of that by the model's own scores.
    excess, variance
        Brier loss beyond the one that is expected if the probabilities are right, halved so that it lies in [-1, 1], and its variance under them.
    came, promised
        What a reader of an alarm wants to compare: of two classes the label and the score, of more the error and its probability.
    """

    error: Float64
    expected: Float64
    excess: Float64
    variance: Float64
    came: Float64
    promised: Float64

    def columns(self) -> Float64:
        """Return excess, variance, promised and came, shape (n, 4)."""
        return np.column_stack([self.excess, self.variance, self.promised, self.came])


def kept(label: NDArray[np.int64], probabilities: Float64, predicted: NDArray[np.int64]) -> Kept:
    """Hold labels (class by index, shape (n,)) against probabilities, shape (n, K).

    With p(y) for the probability of the class that came, half of sum (y_k - p_k)^2 - sum p_k (1 - p_k) is sum p_k^2 - p(y); two classes give
    (y - p) (1 - 2 p). Its mean is zero for right probabilities, whatever the base rate does.

    Examples
    --------
    >>> kept(np.array([1]), np.array([[0.8, 0.2]]), np.array([0])).excess.round(2).tolist()
    [0.48]
    """
    rows = np.arange(len(label))
    # A score at the end of its range has no variance: one that is wrong would count without bound.
    sure = np.clip(probabilities, _SURE, 1 - _SURE)
    squares, cubes = (sure**2).sum(axis=1), (sure**3).sum(axis=1)
    excess = (probabilities**2).sum(axis=1) - probabilities[rows, label]
    variance = np.maximum(cubes - squares**2, _SURE**2)
    error, expected = (predicted != label).astype(np.float64), 1 - probabilities[rows, predicted]
    return Kept(error, expected, excess, variance, error, expected)


def kept_binary(label: Float64, score: Float64, predicted: NDArray[np.int64]) -> Kept:
    """Hold labels, 0 or 1, against the scores of the positive class, shape (n,) each."""
    sure, decided = np.clip(score, _SURE, 1 - _SURE), predicted > 0
    variance = np.maximum(sure * (1 - sure) * (1 - 2 * sure) ** 2, _SURE**2)
    expected = np.where(decided, 1 - score, score)
    return Kept((decided != (label > 0.5)).astype(np.float64), expected, (label - score) * (1 - 2 * score), variance, label, score)
