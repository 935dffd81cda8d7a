"""Bounds of a prediction interval that are kept at their coverage while labels come: online quantile tracking."""

from dataclasses import dataclass, field
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]
RECENT = 200
_LEAST = 50
_RATE = 0.1
_SWAY, _SOON = 0.6, 4.0
_LAST, _SWUNG, _LEAP = 10, 6, 3.0
_DEVIATIONS = 2.5631031310892007  # of a normal distribution, between its 10 % and its 90 % quantile


@numba.njit(cache=True)
def _reaching(ring: Float64, seen: int, lower: float, upper: float, most: float) -> tuple[float, float]:
    """Bounds that reach for all of the last ten residuals, by `most` at once, where six of these lie beyond them; otherwise as they are."""
    beyond, low, high = 0, lower, upper
    for back in range(1, _LAST + 1):
        value = ring[(seen - back) % ring.size]
        if value < lower or value > upper:
            beyond += 1
        low, high = min(low, value), max(high, value)
    return (max(low, lower - most), min(high, upper + most)) if beyond >= _SWUNG else (lower, upper)


@numba.njit(cache=True)
def _track(
    residuals: Float64, state: Float64, ring: Float64, buffer: Float64, seen: int, tail: float, bounds: Float64, leapt: NDArray[np.bool_]
) -> None:
    """Fill `bounds` (n, 2) after each residual, and where they leapt, `leapt` (n,).

    Written over are `state` (lower, upper, first deviation, debts), `ring`, and `buffer`: at first what is in the ring, in ascending order, and room
    for as many values as the ring has.

    Sorting and searching NumPy's way would take ten times as long to compile as all the rest.
    """
    size = ring.size
    held = min(seen, size)
    lower, upper, deviation, owed_below, owed_above = state[0], state[1], state[2], state[3], state[4]
    for row in range(residuals.size):
        value = residuals[row]
        if held == size:
            held -= 1
            gone, place = ring[seen % size], 0
            while buffer[place] < gone:
                place += 1
            for later in range(place, held):
                buffer[later] = buffer[later + 1]
        place = held
        while place > 0 and buffer[place - 1] >= value:
            buffer[place] = buffer[place - 1]
            place -= 1
        buffer[place] = value
        held += 1
        ring[seen % size] = value
        seen += 1
        if held >= _LEAST:
            deviation = (buffer[int(0.9 * (held - 1) + 0.5)] - buffer[int(0.1 * (held - 1) + 0.5)]) / _DEVIATIONS
            if np.isnan(lower):
                lower, upper = buffer[int(tail * (held - 1))], buffer[int((1.0 - tail) * (held - 1) + 0.5)]
        step = _RATE * deviation
        if not np.isnan(lower):
            above, below = value > upper, value < lower
            # What a bound owes it makes up for: with too few residuals beyond it, more are let there for a while.
            aim_above = tail * (1.0 + _SWAY * min(max(owed_above / _SOON, -1.0), 1.0))
            aim_below = tail * (1.0 + _SWAY * min(max(owed_below / _SOON, -1.0), 1.0))
            upper += step * ((1.0 - aim_above) if above else -aim_above)
            lower -= step * ((1.0 - aim_below) if below else -aim_below)
            owed_above += tail - (1.0 if above else 0.0)
            owed_below += tail - (1.0 if below else 0.0)
            if lower > upper:
                lower = upper = lower / 2.0 + upper / 2.0
            if seen >= _LAST:
                low, high = _reaching(ring, seen, lower, upper, _LEAP * deviation)
                leapt[row] = low < lower or high > upper
                lower, upper = low, high
            if held >= _LEAST:
                least, most = buffer[0] - deviation, buffer[held - 1] + deviation
                lower, upper = min(max(lower, least), most), min(max(upper, least), most)
        bounds[row, 0], bounds[row, 1] = lower, upper
    state[0], state[1], state[2], state[3], state[4] = lower, upper, deviation, owed_below, owed_above


@dataclass(slots=True)
class IntervalTracker:
    """Lower and upper offset of a prediction interval (score + offset), each a quantile of the residuals (label - score) followed online.

    A residual beyond a bound moves that bound outwards by 0.1 (1 - t) deviations, any other one inwards by 0.1 t, where t is the share of rows that
    may lie beyond it: (1 - coverage) / 2. Over any stretch the share beyond a bound is therefore t, but for the way that the bound went in it;
    nothing is assumed about the residuals. A bound that began a deviation too far out would so go without ten of its residuals for good: what it
    owes is counted, and while it owes four or more, t is larger by six tenths (and smaller where it has let too many pass). The deviation is that of
    the last 200 residuals (their 10 % to 90 % range), so that the units do not matter and a single huge residual has the weight of any other. The
    bounds never leave the range of these residuals by more than a deviation.

    Six of the last ten residuals beyond the bounds are no chance (one in 7,000 rows, were each beyond with .1): the errors have swung, and the bounds
    reach for all ten at once, by three deviations a row at most.

    A label that comes late moves the bounds late: rows between a shift and its first label are covered as badly as by any other interval. If labels
    are 100 rows late and 64 % of the rows after a shift lie beyond (a mean that moves by two deviations), then the worst 500 rows have .78 even if
    the bounds are right from the first label on.

    Replay-safe: the same residuals in the same order give the same bounds, however they were batched. No clock.

    Parameters
    ----------
    lower, upper
        Offsets to begin with, from labels that the model has not learned; none until 50 residuals have come where one of them is not finite.
        Whatever they are, from then on the residuals bound them.
    coverage
        Share of labels that shall lie within.
    owed
        By how many residuals fewer than t of all lay below the lower bound, and above the upper one.

    References
    ----------
    Gibbs and Candès: Adaptive conformal inference under distribution shift. NeurIPS 2021.
    Angelopoulos, Candès and Tibshirani: Conformal PID control for time series prediction. NeurIPS 2023 (section 2.2, quantile tracking).

    Examples
    --------
    >>> tracker = IntervalTracker(-1.0, 1.0)
    >>> tracker.update([5.0, 0.0]).round(3).tolist()
    [[-0.997, 1.058], [-0.994, 1.055]]
    """

    lower: float = float("nan")
    upper: float = float("nan")
    coverage: float = 0.9
    deviation: float = float("nan")
    seen: int = 0
    owed: tuple[float, float] = (0.0, 0.0)
    recent: Float64 = field(default_factory=lambda: np.zeros(RECENT))

    def __post_init__(self) -> None:
        if not np.isfinite(self.upper - self.lower):
            self.lower = self.upper = float("nan")
        if np.isnan(self.deviation):
            self.deviation = max(0.0, (self.upper - self.lower) / (2 * 1.6448536269514722))

    def update(self, residuals: ArrayLike) -> Float64:
        """Absorb residuals in the order of their requests; return the offsets after each, shape (n, 2). One that is not finite moves nothing."""
        return self.followed(residuals)[0]

    def followed(self, residuals: ArrayLike) -> tuple[Float64, NDArray[np.bool_]]:
        """Do as `update` does; return also at which residuals the bounds reached for the last ten, shape (n,)."""
        values = np.asarray(residuals, np.float64)
        finite = np.isfinite(values)
        state, ring = np.array([self.lower, self.upper, self.deviation, *self.owed]), self.recent.copy()
        # Zero has one sign here, so that equal residuals have no order.
        known = values[finite] + 0.0
        moved, leapt = np.empty((len(known), 2)), np.zeros(len(known), np.bool_)
        ordered = np.concatenate((np.sort(ring[: self.seen]), np.zeros(max(0, len(ring) - self.seen))))
        _track(known, state, ring, ordered, self.seen, (1.0 - self.coverage) / 2.0, moved, leapt)
        before = np.vstack([[self.lower, self.upper], moved])
        self.lower, self.upper, self.deviation, *owed = (float(value) for value in state)
        self.owed = owed[0], owed[1]
        self.seen, self.recent = self.seen + int(finite.sum()), ring
        leaps = np.zeros(len(values), np.bool_)
        leaps[finite] = leapt
        return np.asarray(before[np.cumsum(finite)], np.float64), leaps

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists and numbers."""
        return {
            "lower": self.lower,
            "upper": self.upper,
            "coverage": self.coverage,
            "deviation": self.deviation,
            "seen": self.seen,
            "owed": list(self.owed),
            "recent": self.recent.tolist(),
        }

    @staticmethod
    def load(state: dict[str, Any]) -> "IntervalTracker":
        """From a snapshot."""
        return IntervalTracker(**{**state, "owed": (state["owed"][0], state["owed"][1]), "recent": np.array(state["recent"], np.float64)})
