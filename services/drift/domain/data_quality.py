"""Whether inputs are broken: empty, beyond their range, of unknown categories, in other units. Held against windows of the reference."""

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
_REACH = 1.5
_SIGMAS = 5.0
_LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
_SAME = 0.04
_LEAST_FACTOR = 1.25
_LEAST_STEPS = 2
# The largest of some weeks of days is about 2.3 of their standard deviations; a week's mean has one of 7^-1/2, and the bound is 1.5 times that day.
_WEEK_OF_BOUND = 2 / (1.5 * 2.3 * math.sqrt(7))
_MARGIN = 0.1
_COLDEST, _HOTTEST = -60.0, 60.0
FACTORS: Mapping[str, float] = {
    "miles to kilometres": 1.609344, "feet to metres": 0.3048, "pounds to kilograms": 0.45359237, "a decimal place": 10.0,
    "per cent or cents": 100.0, "thousandths": 1000.0, "millionths": 1e6, "minutes to seconds, or hours to minutes": 60.0, "hours to seconds": 3600.0,
    "days to hours": 24.0, "days to seconds": 86400.0,
}  # fmt: skip
"""Changes of units by the factor that values are multiplied with; the way back is the inverse."""


@dataclass(frozen=True, slots=True)
class QualityBounds:
    """What was usual for one feature in the reference's windows.

    Attributes
    ----------
    missing_low, missing_high
        Between these the share of missing values lay in 95 of 100 windows.
    outside
        Bound on the share of values that were never seen before.
    factor_log
        Bound on the logarithm of the factor between a window's quantiles and those of what came before it.
    """

    missing_low: float
    missing_high: float
    outside: float
    factor_log: float

    @staticmethod
    def of(daily: Mapping[str, Sequence[float]], missing: float, outside: float) -> "QualityBounds":
        """From the figures of the reference's windows, oldest first.

        Parameters
        ----------
        daily
            ``missing`` (share), ``outside`` (share beyond what came before) and ``factor_log`` of each window.
        missing
            Share of missing values of the whole reference: what is known where there are no windows.
        outside
            No bound is lower.
        """
        kept = {name: np.array(values[int(len(values) * WARM_UP) :], dtype=np.float64) for name, values in daily.items()}
        shares, unseen, factors = (kept.get(name, np.empty(0)) for name in ("missing", "outside", "factor_log"))
        low, high = np.quantile(shares, [0.025, 0.975]) if shares.size else (missing, missing)
        return QualityBounds(
            min(float(low), missing),
            max(float(high), missing),
            max(outside, _REACH * float(unseen.max(initial=0.0))),
            max(float(np.log(_LEAST_FACTOR)), _REACH * float(factors.max(initial=0.0))),
        )

    def missing(self, share: float, rows: int, least: float) -> tuple[float, float]:
        """Return how far a window's share lies beyond what was usual, and the bound of that."""
        usual = min(max(share, self.missing_low), self.missing_high)
        spread = _SIGMAS * math.sqrt(max(usual * (1 - usual), 1 / max(rows, 1)) / max(rows, 1))
        return abs(share - usual), float(max(least, self.missing_high - self.missing_low, spread))

    @property
    def factor_unsure(self) -> float:
        """How far the logarithm of a factor over a week may lie from the true one: two standard errors of its days, by the largest usual day."""
        return max(_SAME, _WEEK_OF_BOUND * self.factor_log)

    def snapshot(self) -> list[float]:
        """State as plain numbers."""
        return [self.missing_low, self.missing_high, self.outside, self.factor_log]

    @staticmethod
    def load(state: Sequence[Any]) -> "QualityBounds":
        """From a snapshot."""
        return QualityBounds(*state)


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


def outside_shares(reference: Mapping[str, Sketch | Tally], current: Mapping[str, Sketch | Tally]) -> dict[str, float]:
    """Share of each column's present values beyond the reference's range by more than a tenth of it, or of categories it never saw."""
    shares = dict.fromkeys(current, 0.0)
    numbers: dict[str, tuple[Sketch, Sketch]] = {}
    for name, now in current.items():
        before = reference[name]
        if not before.present or not now.present:
            continue
        if isinstance(before, Sketch) and isinstance(now, Sketch):
            numbers[name] = (before, now)
        elif isinstance(before, Tally) and isinstance(now, Tally):
            shares[name] = now.unseen(before) / now.present
        else:
            raise TypeError(f"expected two summaries of one kind, got {type(before).__name__} and {type(now).__name__}")
    if numbers:
        low, high = np.array([(before.low, before.high) for before, _ in numbers.values()]).T
        margin = _MARGIN * (high - low)
        columns = Sketches([now for _, now in numbers.values()])
        shares |= zip(numbers, (columns.outside(low - margin, high + margin) / columns.present).tolist(), strict=True)
    return shares


def day_figures(history: Mapping[str, Sketch | Tally], day: Mapping[str, Sketch | Tally]) -> dict[str, dict[str, float]]:
    """Return each column's share of missing values; against what came before, the share of values never seen and the factor of its quantiles."""
    figures = {name: {"missing": one.missing_share} for name, one in day.items()}
    known = {name: one for name, one in day.items() if history[name].rows}
    for name, share in outside_shares(history, known).items():
        figures[name]["outside"] = share
    for name, factor in scales(history, known).items():
        figures[name]["factor_log"] = factor.factor_log
    return figures


def scales(
    reference: Mapping[str, Sketch | Tally], current: Mapping[str, Sketch | Tally], tolerance: Mapping[str, float] | None = None
) -> dict[str, Scale]:
    """Compare five quantiles of each column of numbers; columns that say nothing about units are left out: two different ones, zeros, other signs.

    A change of units multiplies every quantile by one factor, whatever the distribution; of Celsius and Fahrenheit it is a line.

    Parameters
    ----------
    tolerance
        How far the logarithm of a factor may lie from that of a change of units, by column; .04 by default.

    >>> generator = np.random.default_rng(0)
    >>> miles = {"miles": Sketch.of(generator.gamma(3.0, 200.0, 2000))}
    >>> scales(miles, {"miles": Sketch.of(generator.gamma(3.0, 200.0, 1000) * 1.609344)})["miles"].units
    'miles to kilometres'
    """
    numbers: dict[str, tuple[Sketch, Sketch]] = {}
    for name, later in current.items():
        earlier = reference[name]
        if isinstance(earlier, Sketch) and isinstance(later, Sketch):
            numbers[name] = (earlier, later)
    before = Sketches([earlier for earlier, _ in numbers.values()]).quantiles(_LEVELS)
    now = Sketches([later for _, later in numbers.values()]).quantiles(_LEVELS)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(now / before)
        usable = ((np.diff(before, axis=1) > 0).sum(axis=1) >= _LEAST_STEPS) & ~np.isnan(now).any(axis=1)
        one_sign = np.asarray((before * now > 0).all(axis=1), dtype=np.bool_)
    mean = logs.mean(axis=1)
    with np.errstate(invalid="ignore"):
        one_factor = np.abs(logs - mean[:, None]).max(axis=1) <= np.maximum(_SAME, 0.1 * np.abs(mean))
    scales_by_feature: dict[str, Scale] = {}
    names = list(numbers)
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


def quantiles(sketch: Sketch, levels: Sequence[float]) -> Float64 | None:
    """Return quantiles of the values that are there, right to a cell; None without any."""
    return Sketches([sketch]).quantiles(levels)[0] if sketch.present else None


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
