"""Quality by slice: loss and accuracy or absolute error over the last windows, with intervals."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from tidemill.shared.kinds.kind import Kind

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
LEAST_LABELS = 200
"""Fewer labels of a slice are not judged, as in the gate."""
_WINDOWS_KEPT = 28
_LEAST_DAYS = 7
_NORMAL_95 = 1.959964
_FIGURES = 2
# Labels, weights, squared weights; of each figure its weighted sum, and by squared weights its sum and that of its squares.
_WIDTH = 3 + 3 * _FIGURES


@dataclass(slots=True)
class SliceLabels:
    """Sums over the labels of each slice in the last 28 windows.

    The loss is the kind's (log loss, squared error); beside it accuracy, of regressions the absolute error. Labels of a day share their error, so
    from seven days with labels on the interval is that of a ratio over days (Student's t), below that one over labels. Where answers hide labels
    they are weighted as in the figures of the whole. First labels count: a correction changes the figures of the whole only.
    """

    slices: int
    today: Float64 = field(init=False)
    days: list[Float64] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.today = np.zeros((self.slices, _WIDTH))

    def absorb(self, kind: Kind, codes: Int64, label: Float64, scores: Float64, predicted: Int64, weight: Float64) -> None:
        """Take labels in order, codes of shape (n, columns), scores as the kind has them."""
        usable = kind.is_score(scores)
        if not usable.any():
            return
        codes, label, scores, predicted, weight = codes[usable], label[usable], scores[usable], predicted[usable], weight[usable]
        with np.errstate(over="ignore", invalid="ignore"):
            second = np.abs(scores - label) if kind.name == "regression" else (predicted == label).astype(np.float64)
            columns = [np.ones(len(label)), weight, weight**2]
            for values in (kind.losses(label, scores), second):
                columns += [weight * values, weight**2 * values, weight**2 * values**2]
        table = np.column_stack(columns)
        for code in codes.T:
            # One by one, whatever the batch: a sum of sums has other bits.
            np.add.at(self.today, code[code >= 0], table[code >= 0])

    def close(self) -> None:
        """End a window."""
        self.days = [*self.days, self.today][-_WINDOWS_KEPT:]
        self.today = np.zeros((self.slices, _WIDTH))

    def figures(self, kind: Kind, code: int) -> dict[str, float]:
        """Return labels and, where there are enough, the figures of a slice with the ends of their intervals."""
        days = np.array([day[code] for day in self.days if day[code, 0] > 0]).reshape(-1, _WIDTH)
        total = days.sum(axis=0)
        figures = {"labels": float(total[0])}
        if total[0] < LEAST_LABELS or total[1] <= 0:
            return figures
        second = "mae" if kind.name == "regression" else "accuracy"
        for name, begin in (("loss", 3), (second, 6)):
            mean = total[begin] / total[1]
            if len(days) >= _LEAST_DAYS:
                spread = float(((days[:, begin] - mean * days[:, 1]) ** 2).sum() * len(days) / (len(days) - 1))
                reach = float(stdtrit(len(days) - 1, 0.975))
            else:
                spread, reach = float(total[begin + 2] - 2 * mean * total[begin + 1] + mean**2 * total[2]), _NORMAL_95
            half = reach * np.sqrt(max(spread, 0.0)) / total[1]
            figures |= {name: float(mean), f"{name}_low": float(max(0.0, mean - half)), f"{name}_high": float(mean + half)}
        if kind.name != "regression":
            figures["accuracy_high"] = min(1.0, figures["accuracy_high"])
        return {name: value for name, value in figures.items() if np.isfinite(value)}

    def forget(self, codes: Sequence[int]) -> None:
        """Begin anew for codes that are used anew."""
        for table in (self.today, *self.days):
            table[list(codes)] = 0.0

    def snapshot(self) -> list[str]:
        """State as texts; today's comes last."""
        return [base64.b64encode(day.tobytes()).decode() for day in (*self.days, self.today)]

    def load(self, state: Sequence[str]) -> None:
        """Take the state of a snapshot."""
        *self.days, self.today = (np.frombuffer(base64.b64decode(day), np.float64).reshape(self.slices, _WIDTH).copy() for day in state)


def slice_order(figures: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the names of slices, those with most labels first."""
    return sorted(figures, key=lambda name: (-figures[name].get("labels", 0.0), name))
