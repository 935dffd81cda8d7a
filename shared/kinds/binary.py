"""Yes or no: a label of 0 or 1, a score that is the probability of 1."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidemill.shared.kinds.classification import FALLING, RISING, SCORE_TOLERANCE
from tidemill.shared.kinds.kind import Default
from tidemill.shared.statistics import metrics
from tidemill.shared.statistics.bootstrap import Interval, auc_difference_interval
from tidemill.shared.statistics.calibration import calibration_error
from tidemill.shared.statistics.propensity import Weights, of_rows


@dataclass(frozen=True, slots=True)
class Binary:
    """Two classes, of which the second is the positive one. See `Kind`.

    >>> Binary().decide(np.array([0.2, 0.5, 0.9]), 0.5).tolist()
    [0, 1, 1]
    """

    name: str = "binary"
    headline: str = "auc"
    rising: tuple[str, ...] = RISING
    falling: tuple[str, ...] = FALLING
    has_classes: bool = False
    is_learned: bool = False
    classes: tuple[str, ...] = ()
    expected: str = "0 or 1"
    width: int = 1
    least: float = -SCORE_TOLERANCE
    most: float = 1.0 + SCORE_TOLERANCE

    def is_label(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Return which values are 0 or 1."""
        labels = np.asarray(values, np.float64)
        is_class: NDArray[np.bool_] = (labels == 0.0) | (labels == 1.0)
        return is_class

    def is_score(self, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which scores are probabilities. Sums of a forest's leaves may leave [0, 1] by a rounding: that is an answer all the same."""
        is_probability: NDArray[np.bool_] = (scores >= self.least) & (scores <= self.most)
        return is_probability

    def losses(self, labels: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
        """Return log losses in nats, scores clipped to [eps, 1 - eps]."""
        return metrics.log_losses(labels, scores)

    def decide(self, scores: NDArray[np.float64], threshold: float | NDArray[np.float64]) -> NDArray[np.int32]:
        """Return 1 where the score has reached the threshold."""
        return (scores >= threshold).astype(np.int32)

    def lack(self, labels: ArrayLike, least: int) -> str:
        """Say which of the two classes have fewer than `least` rows."""
        return metrics.too_few(np.bincount(np.asarray(labels, np.float64).astype(np.int64), minlength=2), ("negatives", "positives"), least)

    def figures(self, labels: ArrayLike, scores: ArrayLike, predicted: ArrayLike, weights: Weights = None) -> dict[str, float]:
        """Return ranking, probability and class metrics; precision, recall and F1 are those of the positive class.

        Rows whose score is no probability are left out of ranking and probability metrics.
        """
        confusion = metrics.confusion(labels, predicted, 2, weights)
        table = np.asarray(scores, np.float64)
        scored = self.is_score(table)
        truth, table, weights = np.asarray(labels, np.float64)[scored], table[scored], of_rows(weights, scored)
        figures = {
            "auc": metrics.roc_auc(truth, table, weights),
            "average_precision": metrics.average_precision(truth, table, weights),
            "log_loss": metrics.log_loss(truth, table, weights),
            "brier": metrics.brier(truth, table, weights),
            "calibration_error": calibration_error(truth, table, weights=weights),
            **metrics.class_figures(confusion, positive=1),
        }
        return metrics.defined(figures)

    def lead(self, labels: ArrayLike, first: ArrayLike, second: ArrayLike, blocks: ArrayLike, weights: Weights = None) -> Interval:
        """Return the AUC of the first scores minus that of the second, with its interval."""
        return auc_difference_interval(labels, first, second, blocks, weights=weights)

    def default_scores(self, default: Default) -> NDArray[np.float64]:
        """Return the probability that the fallback answers."""
        if isinstance(default, bool) or not isinstance(default, int | float) or not 0.0 <= default <= 1.0:
            raise ValueError("a probability from 0 to 1 (kind: binary)")
        return np.array(float(default))
