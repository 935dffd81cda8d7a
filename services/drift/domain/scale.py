"""The scale of a feature's values: what it usually is, and whether a change of units explains how it has moved."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.statistics.histogram import Tally
from tidemill.shared.statistics.sketch import Sketch
from tidemill.shared.statistics.sketches import Sketches

Float64 = NDArray[np.float64]
WARM_UP = 1 / 3
"""Share of the reference's windows, the oldest, that are left out: views fill, ranges are met for the first time."""
REACH = 1.5
"""Bounds are so many times the largest figure of the reference's windows."""
_LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
_SAME = 0.04
_LEAST_FACTOR = 1.25
_LEAST_STEPS = 2
_LEAST_MOVED = 0.5
# The largest of some weeks of days is about 2.3 of their standard deviations; a week's mean has one of 7^-1/2, and the bound is 1.5 times that day.
_WEEK_OF_BOUND = 2 / (1.5 * 2.3 * math.sqrt(7))
_COLDEST, _HOTTEST = -60.0, 60.0
FACTORS: Mapping[str, float] = {
    "miles to kilometres": 1.609344, "feet to metres": 0.3048, "pounds to kilograms": 0.45359237, "a decimal place": 10.0,
    "per cent or cents": 100.0, "thousandths": 1000.0, "millionths": 1e6, "minutes to seconds, or hours to minutes": 60.0, "hours to seconds": 3600.0,
    "days to hours": 24.0, "days to seconds": 86400.0,
}  # fmt: skip
"""Changes of units by the factor that values are multiplied with; the way back is the inverse."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How a window's quantiles follow from the reference's.

    Attributes
    ----------
    factor
        Geometric mean of the quotients of their quantiles.
    units
        Name of the change of units that fits every quantile; empty where none does.
    """

    factor: float
    units: str

    @property
    def factor_log(self) -> float:
        """Absolute logarithm of the factor."""
        return abs(math.log(self.factor))


@dataclass(frozen=True, slots=True)
class UsualScale:
    """What the scale of one feature was in the days that a champion's are held against.

    Attributes
    ----------
    levels
        Five quantiles of its values; empty without values, and of categories.
    factor_log
        Bound on the logarithm of the factor between the quantiles of a window and these.
    spread
        Median of what lies between the outer two of these quantiles in one day; 0 where no day is known.
    """

    levels: Sequence[float]
    factor_log: float
    spread: float = 0.0

    @staticmethod
    def of(figures: Sequence[float], levels: Sequence[float], spreads: Sequence[float] = ()) -> "UsualScale":
        """From how far the quantiles of days lay from those before them, as logarithms of a factor, oldest first, and their spreads."""
        largest = max(figures[int(len(figures) * WARM_UP) :], default=0.0)
        return UsualScale(levels, max(float(np.log(_LEAST_FACTOR)), REACH * largest), float(np.median(spreads)) if spreads else 0.0)

    def is_scaled(self, scale: Scale, spread: float) -> bool:
        """Whether a day's values have moved apart by the factor as well, or nearer: other units do that, a level that has moved does not.

        A day of few values between days that differ (the weather of one) is narrower than all of them together, and where it lies far off all five
        quantiles may have moved by one factor by chance.
        """
        if not self.spread:
            return True
        return spread > 0 and math.copysign(1.0, math.log(scale.factor)) * math.log(spread / self.spread) >= _LEAST_MOVED * scale.factor_log

    @property
    def factor_unsure(self) -> float:
        """How far the logarithm of a factor over a week may lie from the true one: two standard errors of its days, by the largest usual day."""
        return max(_SAME, _WEEK_OF_BOUND * self.factor_log)

    def snapshot(self) -> list[Any]:
        """State as plain lists and numbers."""
        return [list(self.levels), self.factor_log, self.spread]

    @staticmethod
    def load(state: Sequence[Any]) -> "UsualScale":
        """From a snapshot."""
        return UsualScale(*state)


def levels_of(summaries: Mapping[str, Sketch | Tally]) -> dict[str, list[float]]:
    """Return five quantiles of each column of numbers; columns without any are left out."""
    numbers = {name: one for name, one in summaries.items() if isinstance(one, Sketch) and one.present}
    return dict(zip(numbers, Sketches(list(numbers.values())).quantiles(_LEVELS).tolist(), strict=True))


def spread_of(levels: Sequence[float]) -> float:
    """Return what lies between the outer two of five quantiles."""
    return levels[-1] - levels[0]


def scales(
    reference: Mapping[str, Sequence[float]], current: Mapping[str, Sequence[float]], tolerance: Mapping[str, float] | None = None
) -> dict[str, Scale]:
    """Compare five quantiles of each column of numbers (`levels_of`) with those of its reference.

    Columns that say nothing about units are left out: two different quantiles, zeros, other signs. A change of units multiplies every quantile by
    one factor, whatever the distribution; of Celsius and Fahrenheit it is a line.

    Parameters
    ----------
    tolerance
        How far the logarithm of a factor may lie from that of a change of units, by column; .04 by default.

    >>> generator = np.random.default_rng(0)
    >>> miles = levels_of({"miles": Sketch.of(generator.gamma(3.0, 200.0, 2000))})
    >>> scales(miles, levels_of({"miles": Sketch.of(generator.gamma(3.0, 200.0, 1000) * 1.609344)}))["miles"].units
    'miles to kilometres'
    """
    names = [name for name in current if name in reference]
    before, now = (np.array([one[name] for name in names], dtype=np.float64).reshape(-1, len(_LEVELS)) for one in (reference, current))
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(now / before)
        usable = ((np.diff(before, axis=1) > 0).sum(axis=1) >= _LEAST_STEPS) & ~np.isnan(now).any(axis=1)
        one_sign = np.asarray((before * now > 0).all(axis=1), dtype=np.bool_)
    mean = logs.mean(axis=1)
    with np.errstate(invalid="ignore"):
        one_factor = np.abs(logs - mean[:, None]).max(axis=1) <= np.maximum(_SAME, 0.1 * np.abs(mean))
    scales_by_feature: dict[str, Scale] = {}
    maybe_degrees: NDArray[np.bool_] = np.logical_and(usable, _maybe_degrees(before, now))
    for row in np.flatnonzero(usable & (one_sign | maybe_degrees)).tolist():
        degrees = _degrees(before[row], now[row]) if maybe_degrees[row] else None
        if degrees is not None:
            scales_by_feature[names[row]] = degrees
        elif one_sign[row]:
            scales_by_feature[names[row]] = Scale(
                float(np.exp(mean[row])), _units(float(mean[row]), (tolerance or {}).get(names[row], _SAME)) if one_factor[row] else ""
            )
    return scales_by_feature


def _units(mean: float, tolerance: float) -> str:
    """Return the change of units whose factor has about that logarithm; empty where none has."""
    for name, known in FACTORS.items():
        for sign, words in ((1, name), (-1, f"the reverse of {name}")):
            if abs(mean - sign * math.log(known)) < tolerance:
                return words
    return ""


def _maybe_degrees(before: Float64, now: Float64) -> NDArray[np.bool_]:
    """Whether quantiles, shape (n, 5), have moved as far as they have to between Celsius and Fahrenheit."""
    reach = np.ptp(before, axis=1)
    return np.asarray((reach > 4) & (np.abs(now - before).min(axis=1) > 0.5 * reach), dtype=np.bool_)


def _degrees(before: Float64, now: Float64) -> Scale | None:
    """Celsius and Fahrenheit: temperatures of the air whose quantiles lie on the line from one to the other, and not where they were."""
    reach = float(np.ptp(before))
    fahrenheit, celsius = 1.8 * before + 32, (before - 32) / 1.8
    for name, here, line in (("degrees Celsius to Fahrenheit", before, fahrenheit), ("degrees Fahrenheit to Celsius", celsius, celsius)):
        is_air = _COLDEST < here.min() and here.max() < _HOTTEST
        if is_air and reach > 4 and np.abs(now - line).max() < 0.15 * float(np.ptp(line)) and np.abs(now - before).min() > 0.5 * reach:
            return Scale(float(np.ptp(now) / reach), name)
    return None
