"""What a model promises, and what came: errors, the excess loss and its variance."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.kinds.kind import Kind

Float64 = NDArray[np.float64]
_SURE = 1e-3
_SCALE_LABELS = 200
_LARGEST_ERROR = 1e150


@dataclass(frozen=True, slots=True)
class PromiseErrors:
    """How far promises were kept, by row, shape (n,) each.

    Attributes
    ----------
    error, expected
        Whether the class predicted was wrong, 0 or 1, and the probability of that by the model's own scores.
    excess, variance
        Brier loss beyond the one that is expected if the probabilities are right, halved so that it lies in [-1, 1], and its variance under them.
    loss
        The Brier loss that is expected if the probabilities are right, halved as the excess is; 0 where nothing is promised.
    came, promised
        What a reader of an alarm wants to compare: of two classes the label and the score, of more the error and its probability.
    """

    error: Float64
    expected: Float64
    excess: Float64
    variance: Float64
    came: Float64
    promised: Float64
    loss: Float64

    def columns(self) -> Float64:
        """Return excess, variance, promised, came and expected loss, shape (n, 5)."""
        return np.column_stack([self.excess, self.variance, self.promised, self.came, self.loss])


def kept(label: NDArray[np.int64], probabilities: Float64, predicted: NDArray[np.int64]) -> PromiseErrors:
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
    squares, cubes, concentration = (sure**2).sum(axis=1), (sure**3).sum(axis=1), (probabilities**2).sum(axis=1)
    excess = concentration - probabilities[rows, label]
    variance = np.maximum(cubes - squares**2, _SURE**2)
    error, expected = (predicted != label).astype(np.float64), 1 - probabilities[rows, predicted]
    return PromiseErrors(error, expected, excess, variance, error, expected, (1 - concentration) / 2)


def kept_binary(label: Float64, score: Float64, predicted: NDArray[np.int64]) -> PromiseErrors:
    """Hold labels, 0 or 1, against the scores of the positive class, shape (n,) each."""
    sure, decided = np.clip(score, _SURE, 1 - _SURE), predicted > 0
    variance = np.maximum(sure * (1 - sure) * (1 - 2 * sure) ** 2, _SURE**2)
    expected = np.where(decided, 1 - score, score)
    error, excess = (decided != (label > 0.5)).astype(np.float64), (label - score) * (1 - 2 * score)
    return PromiseErrors(error, expected, excess, variance, label, score, score * (1 - score))


class Promise(Protocol):
    """Holds labels against scores, and learns from the first labels of a champion what that takes."""

    @property
    def width(self) -> int:
        """Scores of a row: number of classes, 0 where a score is one number."""
        ...

    def learn(self, label: Float64, score: Float64) -> int:
        """Learn from the first labels of a champion, in order, and return how many of these are used up by it."""
        ...

    def hold(self, label: Float64, score: Float64, predicted: NDArray[np.int64]) -> PromiseErrors:
        """Hold labels, shape (n,), against scores, shape (n,) or (n, K)."""
        ...

    def reset(self) -> None:
        """Begin anew for a new champion."""
        ...

    def snapshot(self) -> list[float]:
        """State."""
        ...

    def load(self, state: list[float]) -> None:
        """Take the state of a snapshot."""
        ...


@dataclass(slots=True)
class Probabilities:
    """Probabilities say themselves how often they will be wrong: there is nothing to learn."""

    rule: Callable[..., PromiseErrors]
    width: int = 0

    def learn(self, label: Float64, score: Float64) -> int:
        """Use nothing up."""
        return 0

    def hold(self, label: Float64, score: Float64, predicted: NDArray[np.int64]) -> PromiseErrors:
        """Hold classes against probabilities."""
        return self.rule(label, score, predicted)

    def reset(self) -> None:
        """Keep nothing."""

    def snapshot(self) -> list[float]:
        """State: none."""
        return []

    def load(self, state: list[float]) -> None:
        """Take the state of a snapshot: none."""


@dataclass(slots=True)
class UsualError:
    """A regression promises nothing: its absolute errors e are taken as e / (e + u), with u for the mean of the champion's first 200.

    That is in [0, 1] and has no unit, and one error at the end of the floats counts as wrong as can be, not more.
    """

    total: float = 0.0
    count: int = 0
    width: int = 0

    def learn(self, label: Float64, score: Float64) -> int:
        """Learn the usual error."""
        used = min(_SCALE_LABELS - self.count, len(label))
        for error in np.abs(score - label)[:used].tolist():
            self.total += error if error < _LARGEST_ERROR else 0.0
        self.count += used
        return used

    def hold(self, label: Float64, score: Float64, predicted: NDArray[np.int64]) -> PromiseErrors:
        """Return relative errors and their squares in place of excess loss and variance, the usual and the absolute error as promised and came."""
        usual = self.total / self.count if self.total else 1.0
        error = np.minimum(np.abs(score - label), _LARGEST_ERROR)
        relative = error / (error + usual)
        promised, none = np.full(len(label), usual), np.zeros(len(label))
        return PromiseErrors(none, none, relative, relative**2, np.minimum(error, 1e6 * usual), promised, none)

    def reset(self) -> None:
        """Forget the usual error."""
        self.total, self.count = 0.0, 0

    def snapshot(self) -> list[float]:
        """State: total and count."""
        return [self.total, self.count]

    def load(self, state: list[float]) -> None:
        """Take the state of a snapshot."""
        self.total, self.count = float(state[0]), int(state[1])


def promise_of(kind: Kind) -> Promise:
    """Return how labels of a kind are held against scores."""
    if kind.name == "regression":
        return UsualError()
    if not kind.has_classes:
        return Probabilities(kept_binary)
    return Probabilities(lambda label, score, predicted: kept(label.astype(np.int64), score, predicted), kind.width)
