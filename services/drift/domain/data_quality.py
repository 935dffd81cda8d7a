"""Whether inputs are broken: empty, beyond their range, of unknown categories. Held against windows of the reference."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.services.drift.domain.scale import REACH, WARM_UP, levels_of, scales, spread_of
from tidemill.services.drift.domain.shifts import Summary
from tidemill.shared.statistics.histogram import Tally
from tidemill.shared.statistics.sketch import Sketch
from tidemill.shared.statistics.sketches import Sketches

Float64 = NDArray[np.float64]
_SIGMAS = 5.0
_MARGIN = 0.1
_LEAST_DAYS = 14
_FARTHEST_DAY = 4.0


@dataclass(frozen=True, slots=True)
class QualityBounds:
    """What was usual for one feature in the reference's windows.

    Attributes
    ----------
    missing_low, missing_high
        Between these the share of missing values lay in 95 of 100 windows.
    outside
        Bound on the share of values that were never seen before.
    """

    missing_low: float
    missing_high: float
    outside: float

    @staticmethod
    def of(daily: Mapping[str, Sequence[float]], missing: float, outside: float) -> "QualityBounds":
        """From the figures of the reference's windows, oldest first.

        Parameters
        ----------
        daily
            ``missing`` (share) and ``outside`` (share beyond what came before) of each window.
        missing
            Share of missing values of the whole reference: what is known where there are no windows.
        outside
            No bound is lower.
        """
        kept = {name: np.array(values[int(len(values) * WARM_UP) :], dtype=np.float64) for name, values in daily.items()}
        shares, unseen = (kept.get(name, np.empty(0)) for name in ("missing", "outside"))
        low, high = np.quantile(shares, [0.025, 0.975]) if shares.size else (missing, missing)
        return QualityBounds(min(float(low), missing), max(float(high), missing), max(outside, REACH * float(unseen.max(initial=0.0))))

    def missing(self, share: float, rows: int, least: float) -> tuple[float, float]:
        """Return how far a window's share lies beyond what was usual, and the bound of that."""
        usual = min(max(share, self.missing_low), self.missing_high)
        spread = _SIGMAS * math.sqrt(max(usual * (1 - usual), 1 / max(rows, 1)) / max(rows, 1))
        return abs(share - usual), float(max(least, self.missing_high - self.missing_low, spread))

    def snapshot(self) -> list[float]:
        """State as plain numbers."""
        return [self.missing_low, self.missing_high, self.outside]

    @staticmethod
    def load(state: Sequence[Any]) -> "QualityBounds":
        """From a snapshot."""
        return QualityBounds(*state)


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


def day_figures(history: Mapping[str, Summary], day: Mapping[str, Summary]) -> dict[str, dict[str, float]]:
    """Return each column's share of missing values; against what came before, the share of values never seen and the factor of its quantiles.

    Of numbers also the ends, the middle and the spread of the day; not of infinite ones.
    """
    figures = {name: {"missing": one.missing_share} for name, one in day.items()}
    levels = levels_of(day)
    for name, own in levels.items():
        one = day[name]
        ends = {"lowest": one.low, "highest": one.high} if isinstance(one, Sketch) else {}
        of_numbers = {**ends, "middle": own[len(own) // 2], "spread": spread_of(own)}
        if all(map(math.isfinite, of_numbers.values())):
            figures[name] |= of_numbers
    known = {name: one for name, one in day.items() if history[name].rows}
    for name, share in outside_shares(history, known).items():
        figures[name]["outside"] = share
    for name, factor in scales(levels_of({name: history[name] for name in known}), {name: levels[name] for name in known if name in levels}).items():
        figures[name]["factor_log"] = factor.factor_log
    return figures


def with_reach(seen: Summary, daily: Mapping[str, Sequence[float]]) -> Summary:
    """Return a summary whose range has what a day can bring by how the middles of days differ: four of their standard deviations.

    Of values that lie apart from day to day more than within one (a weather), the range of all rows is that of some dozen days, however many rows
    there are: the next cold spell lies beyond it. What differs by the row has been met as far out as that goes, and keeps its range.

    Parameters
    ----------
    daily
        ``lowest``, ``highest`` and ``middle`` value of each day; of fewer than 14 days nothing is said.
    """
    lowest, highest, middle = (np.array(daily.get(name, ())) for name in ("lowest", "highest", "middle"))
    if not isinstance(seen, Sketch) or len(middle) < _LEAST_DAYS:
        return seen
    reach = _FARTHEST_DAY * float(middle.std())
    return replace(seen, low=min(seen.low, float(lowest.mean()) - reach), high=max(seen.high, float(highest.mean()) + reach))


def quantiles(sketch: Sketch, levels: Sequence[float]) -> Float64 | None:
    """Return quantiles of the values that are there, right to a cell; None without any."""
    return Sketches([sketch]).quantiles(levels)[0] if sketch.present else None
