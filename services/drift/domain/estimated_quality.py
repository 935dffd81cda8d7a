"""How good answers are whose labels have not come: what calibrated probabilities say of themselves."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.kinds.kind import Kind

Float64 = NDArray[np.float64]
_UNITS = 2.0**40
_STEP, _FARTHEST = 0.01, 15.0
_FEW_CLASSES, _WIDE_STEP = 4, 0.1
_LEAST_ANSWERS = 30
_LEAST_CHANCE = 1e-15
_NORMAL_95 = 1.959964
_SCALE = np.array([1.0, _UNITS, 1.0, _UNITS])
_SUMS = ("right", "right_variance", "entropy", "entropy_variance", "brier", "brier_variance")


@dataclass(slots=True)
class EstimatedQuality:
    """Confidence-based performance estimation (CBPE, the method of NannyML) over the answers of a window.

    A row with probability p of a class is p of a row of that class and 1 - p of one that is not: the expected confusion matrix, and with it accuracy,
    precision, recall, F1 and the area under the curve, follow from scores alone; log loss and Brier loss are those of labels drawn from them.
    Of several classes, each is held against the rest, and the mean is taken. An interval is where the metric of these very rows lies 95 times in
    100 if the probabilities are right: it holds the chance of the labels, not that the probabilities may be wrong. Under a change of
    what features mean they are, and then this estimate is, too: it sees a change of the inputs, never one of the question.

    Sums are kept in units of 2^-40, so that they are whole numbers and batches of any size give the same; curves by logit in steps of .01, of
    more than four classes .1.

    References
    ----------
    NannyML: Estimating model performance without targets, https://nannyml.readthedocs.io (How it works: CBPE).
    """

    answers: int = 0
    sums: list[int] = field(default_factory=lambda: [0] * len(_SUMS))
    curves: dict[str, dict[str, list[int]]] = field(default_factory=dict)

    def absorb(self, kind: Kind, scores: Float64, predicted: NDArray[np.int64]) -> None:
        """Take answers: scores of shape (n,) or (n, K) and the classes given, shape (n,). Regressions have no probabilities, and are left out."""
        if kind.name == "regression" or not len(scores):
            return
        table = scores if kind.has_classes else np.column_stack([1 - scores, scores])
        usable = kind.is_score(scores) & (predicted >= 0) & (predicted < table.shape[1])
        table, given = np.clip(table[usable], 0.0, 1.0), predicted[usable]
        if not len(table):
            return
        rows = np.arange(len(table))
        right, squares = table[rows, given], (table**2).sum(axis=1)
        information = -np.log(np.maximum(table, _LEAST_CHANCE))
        entropy = (table * information).sum(axis=1)
        losses = (table * information**2).sum(axis=1) - entropy**2
        brier = 4 * ((table**3).sum(axis=1) - squares**2)
        shown = 1 - squares
        if not kind.has_classes:
            # Of two classes the Brier score counts one of the two squares.
            shown, brier = shown / 2, brier / 4
        self.answers += len(table)
        for place, values in enumerate((right, right * (1 - right), entropy, losses, shown, brier)):
            self.sums[place] += int(np.rint(values * _UNITS).astype(np.int64).sum())
        step = _STEP if table.shape[1] <= _FEW_CLASSES else _WIDE_STEP
        for number in range(table.shape[1]) if kind.has_classes else (1,):
            self._curve(str(number), table[:, number], given == number, step)

    @property
    def brier(self) -> float | None:
        """Estimated Brier loss of an answer; None below 30 answers."""
        return self.sums[_SUMS.index("brier")] / _UNITS / self.answers if self.answers >= _LEAST_ANSWERS else None

    def figures(self, kind: Kind) -> dict[str, float]:
        """Return `estimated_` metrics, with `_low` and `_high`; none below 30 answers."""
        if self.answers < _LEAST_ANSWERS:
            return {}
        right, right_variance, entropy, entropy_variance, brier, brier_variance = (one / _UNITS for one in self.sums)
        figures = _with_interval("accuracy", right / self.answers, np.sqrt(right_variance) / self.answers, 1.0)
        figures |= _with_interval("log_loss", entropy / self.answers, np.sqrt(max(0.0, entropy_variance)) / self.answers, np.inf)
        figures |= _with_interval("brier", brier / self.answers, np.sqrt(max(0.0, brier_variance)) / self.answers, 2.0)
        parts = [_class_figures(np.array([self.curves[name][key] for key in sorted(self.curves[name], key=int)]) / _SCALE) for name in self.curves]
        for name in ("precision", "recall", "f1"):
            values = [one[name] for one in parts]
            figures[f"estimated_{name}"] = float(np.mean(values))
        # The deviation of a mean is at most the mean of the deviations.
        figures |= _with_interval("auc", float(np.mean([one["auc"] for one in parts])), float(np.mean([one["auc_deviation"] for one in parts])), 1.0)
        return {name: value for name, value in figures.items() if np.isfinite(value)}

    def snapshot(self) -> dict[str, Any]:
        """State as whole numbers."""
        return {name: getattr(self, name) for name in self.__slots__}

    @staticmethod
    def load(state: dict[str, Any]) -> "EstimatedQuality":
        """From a snapshot."""
        return EstimatedQuality(**state)

    def _curve(self, name: str, probability: Float64, given: NDArray[np.bool_], step: float) -> None:
        """Count answers by logit: all and those given this class, with their probabilities."""
        with np.errstate(divide="ignore"):
            logit = np.clip(np.log(probability) - np.log1p(-probability), -_FARTHEST, _FARTHEST)
        places = np.rint(logit / step).astype(np.int64)
        units = np.rint(probability * _UNITS).astype(np.int64)
        order = np.argsort(places, kind="stable")
        values, first = np.unique(places[order], return_index=True)
        columns = (np.ones(len(order), np.int64), units, given.astype(np.int64), np.where(given, units, 0))
        added = np.column_stack([np.add.reduceat(one[order], first) for one in columns])
        curve = self.curves.setdefault(name, {})
        for place, more in zip(values.tolist(), added.tolist(), strict=True):
            before = curve.get(str(place), [0, 0, 0, 0])
            curve[str(place)] = [one + add for one, add in zip(before, more, strict=True)]


def _with_interval(name: str, value: float, deviation: float, highest: float) -> dict[str, float]:
    reach = _NORMAL_95 * deviation
    return {
        f"estimated_{name}": float(value),
        f"estimated_{name}_low": float(max(0.0, value - reach)),
        f"estimated_{name}_high": float(min(highest, value + reach)),
    }


def _class_figures(curve: Float64) -> dict[str, float]:
    """Return metrics of one class against the rest, by rows of (answers, sum of probabilities, of those given this class the same), shape (m, 4)."""
    answers, positive, given, hits = curve.T
    negative = answers - positive
    positives, negatives = positive.sum(), negative.sum()
    figures = {
        "precision": float(hits.sum() / given.sum()) if given.sum() else float("nan"),
        "recall": float(hits.sum() / positives) if positives else float("nan"),
        "f1": float(2 * hits.sum() / (positives + given.sum())) if positives + given.sum() else float("nan"),
        "auc": float("nan"),
        "auc_deviation": float("nan"),
    }
    if positives > 0 and negatives > 0:
        below = np.cumsum(negative) - negative / 2
        above = positives - np.cumsum(positive) + positive / 2
        area = float(positive @ below / (positives * negatives))
        # How the area changes when a row of negative kind becomes a positive one; labels are independent given their probabilities.
        effect = (below - above - area * (negatives - positives)) / (positives * negatives)
        variance = positive * (1 - positive / answers)
        figures |= {"auc": area, "auc_deviation": float(np.sqrt(variance @ effect**2))}
    return figures
