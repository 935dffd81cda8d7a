"""What has been usual in each slice: shares of missing values, and the scale of values. What has just begun is no part of it."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
LEAST_HISTORY = 7
"""Windows of a slice before anything is held against them."""
_WEEK = 7
_FIGURES = ("low", "high", "log_windows", "log_mean", "log_spread", "log_far")


@dataclass(frozen=True, slots=True)
class WindowFigures:
    """Figures of windows that have ended, arrays of shape (slices, features).

    Attributes
    ----------
    missing
        Share of missing values.
    log_mean, log_spread
        Mean and standard deviation of the values' logarithms.
    has_logs
        Where these say something.
    """

    missing: Float64
    log_mean: Float64
    log_spread: Float64
    has_logs: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SliceUsual:
    """What was usual in the windows of each slice.

    Attributes
    ----------
    windows
        How many there were, shape (slices,).
    figures
        Arrays of shape (slices, features): least and largest share of missing values; of the windows' mean logarithms how many, their mean, the mean
        spread, and the largest distance from the mean of those before.
    """

    windows: Int64
    figures: dict[str, Float64]

    @staticmethod
    def empty(slices: int, features: int) -> "SliceUsual":
        """Of no windows."""
        return SliceUsual(np.zeros(slices, np.int64), {name: np.zeros((slices, features)) for name in _FIGURES})

    def learned(self, ended: Int64, of: WindowFigures) -> "SliceUsual":
        """Return this with the windows of some slices that have ended."""
        usual = SliceUsual(self.windows.copy(), {name: values.copy() for name, values in self.figures.items()})
        first, own = (self.windows[ended] == 0)[:, None], usual.figures
        own["low"][ended] = np.where(first, of.missing, np.minimum(own["low"][ended], of.missing))
        own["high"][ended] = np.where(first, of.missing, np.maximum(own["high"][ended], of.missing))
        usual.windows[ended] += 1
        before, so_far, spread = (own[name][ended] for name in ("log_windows", "log_mean", "log_spread"))
        windows = before + of.has_logs
        with np.errstate(invalid="ignore", divide="ignore"):
            far = np.where(of.has_logs & (before >= 1), np.abs(of.log_mean - so_far), 0.0)
            own["log_far"][ended] = np.maximum(own["log_far"][ended], far)
            own["log_mean"][ended] = np.where(of.has_logs, so_far + (of.log_mean - so_far) / windows, so_far)
            own["log_spread"][ended] = np.where(of.has_logs, spread + (of.log_spread - spread) / windows, spread)
        own["log_windows"][ended] = windows
        return usual

    def where(self, chosen: NDArray[np.bool_], other: "SliceUsual") -> "SliceUsual":
        """Return this in the chosen slices, shape (slices,), and another in the rest."""
        figures = {name: np.where(chosen[:, None], values, other.figures[name]) for name, values in self.figures.items()}
        return SliceUsual(np.where(chosen, self.windows, other.windows), figures)

    def without(self, codes: Sequence[int]) -> "SliceUsual":
        """Return this with slices begun anew."""
        gone = np.isin(np.arange(len(self.windows)), codes)
        return SliceUsual.empty(len(self.windows), self.figures["low"].shape[1]).where(gone, self)

    def snapshot(self) -> dict[str, str]:
        """State as texts."""
        return {name: base64.b64encode(values.tobytes()).decode() for name, values in {"windows": self.windows, **self.figures}.items()}

    @staticmethod
    def load(state: Mapping[str, str]) -> "SliceUsual":
        """From a snapshot."""
        windows = np.frombuffer(base64.b64decode(state["windows"]), np.int64)
        return SliceUsual(windows, {name: np.frombuffer(base64.b64decode(state[name]), np.float64).reshape(len(windows), -1) for name in _FIGURES})


@dataclass(frozen=True, slots=True)
class UsualSoFar:
    """What has been usual until now, and until one to two weeks ago.

    Attributes
    ----------
    now
        With all windows.
    turns
        What was usual at the last two turns of a week, oldest first.
    days
        Since the first.
    """

    now: SliceUsual
    turns: Sequence[SliceUsual] = field(default=())
    days: int = 0

    def next_day(self) -> "UsualSoFar":
        """Return this a day later."""
        turns = [*self.turns, self.now][-2:] if (self.days + 1) % _WEEK == 0 else self.turns
        return replace(self, turns=turns, days=self.days + 1)

    def settled(self) -> SliceUsual:
        """Return what was usual one to two weeks ago, in slices that had two thirds of their windows then and enough of them; elsewhere, now.

        A fault within a week may not have been told yet, and as what a new champion is held against, it would hide itself for good.
        """
        if len(self.turns) < 2:
            return self.now
        before = self.turns[0]
        return before.where((before.windows >= LEAST_HISTORY) & (3 * before.windows >= 2 * self.now.windows), self.now)

    def without(self, codes: Sequence[int]) -> "UsualSoFar":
        """Return this with slices begun anew."""
        return replace(self, now=self.now.without(codes), turns=[one.without(codes) for one in self.turns])

    def snapshot(self) -> dict[str, Any]:
        """State as plain texts and numbers."""
        return {"now": self.now.snapshot(), "turns": [one.snapshot() for one in self.turns], "days": self.days}

    @staticmethod
    def load(state: Mapping[str, Any]) -> "UsualSoFar":
        """From a snapshot."""
        return UsualSoFar(SliceUsual.load(state["now"]), [SliceUsual.load(one) for one in state["turns"]], state["days"])
