"""How much: a label and a score that are numbers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidemill.shared.kinds.kind import Default
from tidemill.shared.statistics import metrics
from tidemill.shared.statistics.bootstrap import Interval, mean_difference_interval
from tidemill.shared.statistics.propensity import Weights, of_rows

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Regression:
    """A number. See `Kind`.

    >>> Regression().losses([1.0, 2.0], [1.5, 2.0]).tolist()
    [0.25, 0.0]
    """

    name: str = "regression"
    headline: str = "mean_absolute_error"
    rising: tuple[str, ...] = ("r2", "coverage")
    falling: tuple[str, ...] = ("mean_absolute_error", "root_mean_squared_error", "pinball_loss", "interval_width")
    has_classes: bool = False
    is_learned: bool = False
    classes: tuple[str, ...] = ()
    expected: str = "a finite number that 32 bits hold (at most 3.4e38), as models answer"
    width: int = 1
    least: float = -_LARGEST
    most: float = _LARGEST

    def is_label(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Return which values are numbers that a model can answer: sums of the squares of others are not finite."""
        known: NDArray[np.bool_] = np.abs(np.asarray(values, np.float64)) <= _LARGEST
        return known

    def is_score(self, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which scores are numbers that 32 bits hold, as labels are."""
        return self.is_label(scores)

    def losses(self, labels: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
        """Return squared errors."""
        errors = np.asarray(scores, np.float64) - np.asarray(labels, np.float64)
        return errors * errors

    def decide(self, scores: NDArray[np.float64], threshold: float | NDArray[np.float64]) -> NDArray[np.int32]:
        """Return zeros: a number has no class."""
        return np.zeros(len(scores), np.int32)

    def lack(self, labels: ArrayLike, least: int) -> str:
        """Say whether there are fewer than `least` rows at all."""
        count = int(np.asarray(labels).size)
        return f"{count} rows, {least} are needed" if count < least else ""

    def figures(self, labels: ArrayLike, scores: ArrayLike, predicted: ArrayLike, weights: Weights = None) -> dict[str, float]:
        """Return mean absolute error, root mean squared error and the share of variance explained; rows without a score are left out."""
        numbers = np.asarray(scores, np.float64)
        scored = self.is_score(numbers)
        return metrics.defined(metrics.number_figures(np.asarray(labels, np.float64)[scored], numbers[scored], of_rows(weights, scored)))

    def lead(self, labels: ArrayLike, first: ArrayLike, second: ArrayLike, blocks: ArrayLike, weights: Weights = None) -> Interval:
        """Return the mean absolute error of the first scores minus that of the second, with its interval."""
        truth = np.asarray(labels, np.float64)
        errors = [np.abs(np.asarray(scores, np.float64) - truth) for scores in (first, second)]
        return mean_difference_interval(errors[0], errors[1], blocks, weights=weights)

    def default_scores(self, default: Default) -> NDArray[np.float64]:
        """Return the value that the fallback answers."""
        if isinstance(default, bool) or not isinstance(default, int | float) or not abs(default) <= _LARGEST:
            raise ValueError("a finite number of at most 3.4e38 (kind: regression)")
        return np.array(float(default))
