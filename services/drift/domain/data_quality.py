"""Whether inputs are broken: empty, beyond their range, of unknown categories, in other units. Held against windows of the reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.statistics.histogram import Tally
from tidemill.shared.statistics.sketch import Sketch

Float64 = NDArray[np.float64]
WARM_UP = 1 / 3
"""Share of the reference's windows, the oldest, that are left out: views fill, ranges are met for the first time."""
_REACH = 1.5
_SIGMAS = 5.0
_LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
_SAME = 0.04
_LEAST_FACTOR = 1.25
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
        spread = _SIGMAS * np.sqrt(max(usual * (1 - usual), 1 / max(rows, 1)) / max(rows, 1))
        return abs(share - usual), float(max(least, self.missing_high - self.missing_low, spread))

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
        return abs(float(np.log(self.factor)))


def outside_share(reference: Sketch | Tally, current: Sketch | Tally) -> float:
    """Share of the present values that lie beyond the reference's range by more than a tenth of it, or of categories it never saw."""
    if not reference.present or not current.present:
        return 0.0
    if isinstance(reference, Sketch) and isinstance(current, Sketch):
        margin = _MARGIN * (reference.high - reference.low)
        return current.outside(reference.low - margin, reference.high + margin) / current.present
    if isinstance(reference, Tally) and isinstance(current, Tally):
        return current.unseen(reference) / current.present
    raise TypeError(f"expected two summaries of one kind, got {type(reference).__name__} and {type(current).__name__}")


def day_figures(history: Sketch | Tally, day: Sketch | Tally) -> dict[str, float]:
    """Return a day's share of missing values, and against what came before it the share of values never seen and the factor of its quantiles."""
    found = {"missing": day.missing_share}
    if history.rows:
        found["outside"] = outside_share(history, day)
        factor = scale(history, day) if isinstance(history, Sketch) and isinstance(day, Sketch) else None
        if factor is not None:
            found["factor_log"] = factor.factor_log
    return found


def scale(reference: Sketch, current: Sketch) -> Scale | None:
    """Compare five quantiles of two columns; None where they say nothing about units: fewer than three different ones, zeros or signs that differ.

    A change of units multiplies every quantile by one factor, whatever the distribution; of Celsius and Fahrenheit it is a line.

    >>> generator = np.random.default_rng(0)
    >>> miles = generator.gamma(3.0, 200.0, 2000)
    >>> scale(Sketch.of(miles), Sketch.of(generator.gamma(3.0, 200.0, 1000) * 1.609344)).units
    'miles to kilometres'
    """
    before, now = quantiles(reference, _LEVELS), quantiles(current, _LEVELS)
    if before is None or now is None or np.unique(before).size < 3:
        return None
    if (degrees := _degrees(before, now)) is not None:
        return degrees
    if not (before * now > 0).all():
        return None
    logs = np.log(now / before)
    mean = float(logs.mean())
    factor = float(np.exp(mean))
    if np.abs(logs - mean).max() > max(_SAME, 0.1 * abs(mean)):
        return Scale(factor, "")
    for name, known in FACTORS.items():
        for sign, words in ((1, name), (-1, f"the reverse of {name}")):
            if abs(mean - sign * np.log(known)) < _SAME:
                return Scale(factor, words)
    return Scale(factor, "")


def quantiles(sketch: Sketch, levels: Sequence[float]) -> Float64 | None:
    """Return quantiles of the values that are there, right to a cell; None without any."""
    if not sketch.present:
        return None
    filled = np.cumsum(sketch.counts)
    cells = np.searchsorted(filled, np.array(levels) * filled[-1], side="left")
    return sketch.values(sketch.keys[np.minimum(cells, sketch.keys.size - 1)])


def _degrees(before: Float64, now: Float64) -> Scale | None:
    """Celsius and Fahrenheit: temperatures of the air whose quantiles lie on the line from one to the other, and not where they were."""
    reach = float(np.ptp(before))
    fahrenheit, celsius = 1.8 * before + 32, (before - 32) / 1.8
    for name, here, line in (("degrees Celsius to Fahrenheit", before, fahrenheit), ("degrees Fahrenheit to Celsius", celsius, celsius)):
        is_air = _COLDEST < here.min() and here.max() < _HOTTEST
        if is_air and reach > 4 and np.abs(now - line).max() < 0.15 * float(np.ptp(line)) and np.abs(now - before).min() > 0.5 * reach:
            return Scale(float(np.ptp(now) / reach), name)
    return None
