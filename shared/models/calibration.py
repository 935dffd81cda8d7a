"""What makes a graph's scores the served ones: probabilities that mean what they say, numbers in the label's own unit."""

import math
from functools import cached_property
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

_LEAST = 1e-9
"""A class's probability as its logarithm is taken of: zero would rule it out for ever."""


class Calibration(BaseModel):
    """A fixed function of a graph's scores, in 64 bits, part of the signature.

    It works row by row in compiled code, so that the batch a row comes in changes no bit.

    Attributes
    ----------
    link
        ``logit``: a probability p becomes logistic(slope * log(p / (1 - p)) + offset), then what the line through the knots says;
        ``softmax``: probabilities of classes become softmax(slope * log(p) + offsets); ``identity``: a number becomes slope * number + offset.
    slope : more than 0
    offsets
        One, for ``softmax`` one for each class.
    knots, levels
        Of ``logit``: points of a line that rises, at least two or none; the levels are probabilities.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    link: Literal["logit", "softmax", "identity"]
    slope: float = 1.0
    offsets: tuple[float, ...] = (0.0,)
    knots: tuple[float, ...] = ()
    levels: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _usable(self) -> "Calibration":
        if not all(map(math.isfinite, (self.slope, *self.offsets, *self.knots, *self.levels))) or self.slope <= 0 or not self.offsets:
            raise ValueError("expected a finite slope above 0 and finite offsets, knots and levels")
        if self.link != "softmax" and len(self.offsets) != 1:
            raise ValueError(f"expected one offset (link: {self.link}), found {len(self.offsets)}")
        if len(self.knots) != len(self.levels) or len(self.knots) == 1 or (self.knots and self.link != "logit"):
            raise ValueError("expected as many levels as knots, at least two or none, and none but for the link logit")
        if (np.diff(self.knots) <= 0).any() or (np.diff(self.levels) < 0).any():
            raise ValueError("expected knots in rising order and levels that do not fall")
        return self

    @property
    def steepness(self) -> float:
        """How much a small change of a graph's score changes the served one at most, roughly: rounding is magnified as much."""
        if self.link == "identity":
            return self.slope
        offsets = self.offsets if self.link == "logit" else tuple(np.ptp(self.offsets).reshape(1).tolist())
        line = float((np.diff(self.levels) / np.diff(self.knots)).max()) if self.knots else 1.0
        return self.slope * math.exp(min(10.0, abs(offsets[0]))) * max(1.0, line)

    def apply(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the served scores, of the same shape; a score that is NaN stays one.

        >>> Calibration(link="identity", slope=2.0, offsets=(1.0,)).apply(np.array([1.0, 2.0])).tolist()
        [3.0, 5.0]
        """
        if self.link == "identity":
            return scores * self.slope + self.offsets[0]
        answer = np.empty(scores.shape, np.float64)
        if self.link == "softmax":
            if scores.ndim != 2 or scores.shape[1] != len(self.offsets):
                raise ValueError(f"expected scores of {len(self.offsets)} classes, found shape {scores.shape}")
            _tempered(np.ascontiguousarray(scores), self.slope, self._arrays[0], answer)
        else:
            _rated(np.ascontiguousarray(scores), self.slope, self.offsets[0], self._arrays[1], self._arrays[2], answer)
        return answer

    @cached_property
    def _arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        return np.array(self.offsets), np.array(self.knots, np.float64), np.array(self.levels, np.float64)


@njit(cache=True, nogil=True)
def _rated(scores, slope, offset, knots, levels, answer):  # pragma: no cover
    for i in range(scores.size):
        p = scores[i]
        if slope != 1.0 or offset != 0.0:
            if p <= 0.0:
                p = 0.0
            elif p >= 1.0:
                p = 1.0
            elif p == p:
                p = 1.0 / (1.0 + math.exp(-(slope * (math.log(p) - math.log1p(-p)) + offset)))
        if knots.size and p == p:
            if p <= knots[0]:
                p = levels[0]
            elif p >= knots[-1]:
                p = levels[-1]
            else:
                right = np.searchsorted(knots, p, side="right")
                share = (p - knots[right - 1]) / (knots[right] - knots[right - 1])
                p = levels[right - 1] + share * (levels[right] - levels[right - 1])
        answer[i] = p


@njit(cache=True, nogil=True)
def _tempered(scores, slope, offsets, answer):  # pragma: no cover
    for i in range(scores.shape[0]):
        most = -math.inf
        for k in range(scores.shape[1]):
            # Not max(): NaN must stay NaN.
            p = scores[i, k]
            answer[i, k] = slope * math.log(_LEAST if p < _LEAST else p) + offsets[k]
            most = max(most, answer[i, k])
        total = 0.0
        for k in range(scores.shape[1]):
            answer[i, k] = math.exp(answer[i, k] - most)
            total += answer[i, k]
        for k in range(scores.shape[1]):
            answer[i, k] /= total
