"""How large the errors of answers are whose labels have not come: what a regression's error model says of them."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
_LEAST_ANSWERS = 30
_NORMAL_95 = 1.959964
_LARGEST = 1e100
"""A squared error beyond has no square that sums of many could hold."""


@dataclass(slots=True)
class EstimatedError:
    """Direct loss estimation (DLE, the method of NannyML) over the answers of a window.

    Each answer comes with the absolute and the squared error that a second model, fitted on held-out errors, expects of it; their means estimate
    mean absolute and root mean squared error. An interval is where the metric of these very rows lies 95 times in 100 if the error model is
    right: it holds the chance of the labels, not that the error model may be wrong. Under a change of what features mean it is: the estimate sees a
    change of the inputs, within what it has learned from, and never one of the question.

    The variance of an absolute error follows from both expectations. That of a squared error needs the fourth power: it is that of a generalised
    normal distribution with the same two (exact for normal, Laplace and uniform errors). Rows are added one by one, so that batches of any size give
    the same bits.

    References
    ----------
    NannyML: Estimating model performance without targets, https://nannyml.readthedocs.io (How it works: DLE).
    """

    answers: int = 0
    absolute: float = 0.0
    absolute_variance: float = 0.0
    squared: float = 0.0
    squared_variance: float = 0.0

    def absorb(self, absolute: Float64, squared: Float64) -> None:
        """Take what was expected of answers, shape (n,) each; NaN where nothing was."""
        known = (absolute >= 0) & (absolute <= _LARGEST**0.5) & (squared >= 0) & (squared <= _LARGEST)
        if not known.any():
            return
        size, square = absolute[known], squared[known]
        with np.errstate(invalid="ignore", divide="ignore"):
            parts = (size, np.maximum(0.0, square - size**2), square, (_kurtosis(square / size**2) - 1.0) * square**2)
        sums = (self.absolute, self.absolute_variance, self.squared, self.squared_variance)
        self.answers += len(size)
        self.absolute, self.absolute_variance, self.squared, self.squared_variance = (
            float(np.add.accumulate([before, *values.tolist()])[-1]) for before, values in zip(sums, parts, strict=True)
        )

    @property
    def loss(self) -> float | None:
        """Estimated squared error of an answer; None below 30 answers."""
        return self.squared / self.answers if self.answers >= _LEAST_ANSWERS else None

    def figures(self) -> dict[str, float]:
        """Return `estimated_` metrics, with `_low` and `_high`; none below 30 answers."""
        if self.answers < _LEAST_ANSWERS:
            return {}
        mean, square = self.absolute / self.answers, self.squared / self.answers
        reach, wide = (_NORMAL_95 * math.sqrt(variance) / self.answers for variance in (self.absolute_variance, self.squared_variance))
        absolute, root = "estimated_mean_absolute_error", "estimated_root_mean_squared_error"
        figures = {absolute: mean, f"{absolute}_low": max(0.0, mean - reach), f"{absolute}_high": mean + reach}
        figures |= {root: math.sqrt(square), f"{root}_low": math.sqrt(max(0.0, square - wide)), f"{root}_high": math.sqrt(square + wide)}
        return {name: value for name, value in figures.items() if math.isfinite(value)}

    def snapshot(self) -> dict[str, Any]:
        """State as plain numbers."""
        return {name: getattr(self, name) for name in self.__slots__}

    @staticmethod
    def load(state: dict[str, Any]) -> "EstimatedError":
        """From a snapshot."""
        return EstimatedError(**state)


def _kurtosis(ratio: Float64) -> Float64:
    """Return E[e^4] / E[e^2]^2 of generalised normal errors, by E[e^2] / E[|e|]^2, shape (n,); where no error is expected, that of the normal."""
    kurtosis: Float64 = np.interp(np.where(np.isfinite(ratio), ratio, math.pi / 2), _RATIOS, _KURTOSES)
    return kurtosis


def _moment(shape: float, power: int) -> float:
    """Return E[|e|^power] of a generalised normal distribution of scale 1."""
    return math.exp(math.lgamma((power + 1) / shape) - math.lgamma(1 / shape))


# From nearly uniform to tails far heavier than those of the Laplace distribution (shape 1); the normal one has 2.
_SHAPES = np.geomspace(1_000.0, 0.4, 400).tolist()
_RATIOS = np.array([_moment(shape, 2) / _moment(shape, 1) ** 2 for shape in _SHAPES])
_KURTOSES = np.array([_moment(shape, 4) / _moment(shape, 2) ** 2 for shape in _SHAPES])
