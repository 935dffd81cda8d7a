"""One of some classes: a label that is a class's index, scores that are a probability for each."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidemill.shared.kinds.classification import FALLING, RISING, SCORE_TOLERANCE
from tidemill.shared.kinds.kind import Default, words
from tidemill.shared.kinds.spelling import spelled
from tidemill.shared.statistics import metrics
from tidemill.shared.statistics.bootstrap import Interval, class_auc_difference_interval
from tidemill.shared.statistics.calibration import calibration_error
from tidemill.shared.statistics.propensity import Weights, of_rows, weighted_mean


@dataclass(frozen=True, slots=True)
class Multiclass:
    """Two or more classes with names. See `Kind`.

    >>> kind = Multiclass(("setosa", "versicolor", "virginica"))
    >>> kind.decide(np.array([[0.2, 0.4, 0.4]]), 0.5).tolist(), kind.default_scores("virginica").tolist()
    ([1], [0.25, 0.25, 0.5])
    """

    classes: tuple[str, ...]
    is_learned: bool = False
    name: str = "multiclass"
    has_classes: bool = True
    headline: str = "auc"
    rising: tuple[str, ...] = RISING
    falling: tuple[str, ...] = FALLING
    least: float = -SCORE_TOLERANCE
    most: float = 1.0 + SCORE_TOLERANCE

    @property
    def expected(self) -> str:
        """What a label must be."""
        return f"one of the classes {words(self.classes)}"

    @property
    def width(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def is_label(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Return which values are the index of a class."""
        labels = np.asarray(values, np.float64)
        is_class: NDArray[np.bool_] = (labels >= 0) & (labels < len(self.classes)) & (labels == np.floor(labels))
        return is_class

    def is_score(self, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which rows are probabilities that sum up to about 1."""
        with np.errstate(invalid="ignore", over="ignore"):
            bounded = ((scores >= self.least) & (scores <= self.most)).all(axis=1)
            sums_to_one: NDArray[np.bool_] = bounded & (np.abs(scores.sum(axis=1) - 1.0) <= SCORE_TOLERANCE)
        return sums_to_one

    def losses(self, labels: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
        """Return log losses in nats: of the probability of the true class, clipped to [eps, 1 - eps]."""
        return metrics.class_log_losses(labels, scores)

    def decide(self, scores: NDArray[np.float64], threshold: float | NDArray[np.float64]) -> NDArray[np.int32]:
        """Return the likeliest class, of equally likely ones the first; thresholds are not for several classes."""
        likeliest: NDArray[np.int32] = np.argmax(scores, axis=1).astype(np.int32)
        return likeliest

    def lack(self, labels: ArrayLike, least: int) -> str:
        """Say which classes have fewer than `least` rows."""
        counts = np.bincount(np.asarray(labels, np.float64).astype(np.int64), minlength=len(self.classes))
        return metrics.too_few(counts, self.classes, least)

    def figures(self, labels: ArrayLike, scores: ArrayLike, predicted: ArrayLike, weights: Weights = None) -> dict[str, float]:
        """Return ranking metrics (each class against the rest, mean over the classes that occur), probability and class metrics (mean over classes).

        The calibration error is that of the answer given: how often the likeliest class is right against its probability. The Brier score is the
        sum of the squared errors of all classes. Rows of before the classes were changed are left out: of all metrics those with what is no class
        any more, of the ranking and probability metrics those without a probability for each class.
        """
        truth, table = np.asarray(labels, np.float64), np.asarray(scores, np.float64).reshape(-1, len(self.classes))
        counts = metrics.confusion(truth, predicted, len(self.classes), weights)
        scored = self.is_score(table) & self.is_label(truth)
        truth, table, weights = truth[scored], table[scored], of_rows(weights, scored)
        answer = self.decide(table, 0.0)
        against = [(truth == i, table[:, i]) for i in range(len(self.classes)) if (truth == i).any()]
        figures = {
            "auc": _mean([metrics.roc_auc(one, column, weights) for one, column in against]),
            "average_precision": _mean([metrics.average_precision(one, column, weights) for one, column in against]),
            "log_loss": weighted_mean(self.losses(truth, table), weights),
            "brier": metrics.class_brier(truth, table, weights),
            "calibration_error": calibration_error(truth == answer, table.max(axis=1, initial=0.0), weights=weights),
            **metrics.class_figures(counts),
        }
        return metrics.defined(figures)

    def lead(self, labels: ArrayLike, first: ArrayLike, second: ArrayLike, blocks: ArrayLike, weights: Weights = None) -> Interval:
        """Return the AUC of the first scores minus that of the second, with its interval."""
        return class_auc_difference_interval(labels, first, second, blocks, weights=weights)

    def default_scores(self, default: Default) -> NDArray[np.float64]:
        """Return the probabilities that the fallback answers.

        A class by name gets 2 / (K + 1) and each other one 1 / (K + 1): the rule of succession after that class was seen once. One that is said to
        be certain would have an infinite loss when it is wrong, and make any candidate look good.
        """
        if isinstance(default, Mapping):
            given = {spelled(name): float(share) for name, share in default.items()}
            total = sum(given.values())
            if set(given) != set(self.classes) or min(given.values()) < 0 or not abs(total - 1.0) <= SCORE_TOLERANCE:
                raise ValueError(f"a probability for each class, together 1 (kind: multiclass): {words(self.classes)}")
            return np.array([given[name] / total for name in self.classes])
        name = spelled(default)
        if default is None or name not in self.classes:
            raise ValueError(f"a class, or a probability for each (kind: multiclass): {words(self.classes)}")
        scores = np.full(len(self.classes), 1.0 / (len(self.classes) + 1))
        scores[self.classes.index(name)] *= 2
        return scores


def _mean(values: list[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
