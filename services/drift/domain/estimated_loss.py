"""Whether the estimated loss of a champion's answers has risen: a shift without a loss is shown and warns nobody."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

RECENT_WINDOWS = 7
_LEAST_BEFORE = 7
_WINDOWS_KEPT = 60
_NO_LOSS = 0.05
_STANDARD_ERRORS = 2.0


@dataclass(slots=True)
class EstimatedLoss:
    """Estimated loss of one champion's windows (Brier by CBPE, squared error by DLE): the last seven against those before, by their spread.

    It says "no loss" only if the rise is surely (by two standard errors) below 5 % of the loss before. Without an estimate, or with less than two
    weeks of the champion's windows, it says nothing. It sees what a change of inputs does to the answers, and never that the question has changed:
    broken values, units, categories and streams are warned of whatever it says.
    """

    windows: list[float] = field(default_factory=list)

    def close(self, loss: float | None) -> None:
        """Take the estimated loss of a window's answers; too few of them have none."""
        if loss is not None:
            self.windows = [*self.windows, loss][-_WINDOWS_KEPT:]

    def unharmed(self) -> tuple[float, float] | None:
        """Return the loss before and of late if there surely is no rise that matters, else None."""
        before, recent = np.array(self.windows[:-RECENT_WINDOWS]), np.array(self.windows[-RECENT_WINDOWS:])
        if len(before) < _LEAST_BEFORE:
            return None
        usual, now = float(before.mean()), float(recent.mean())
        error = float(before.std(ddof=1)) * np.sqrt(1 / len(before) + 1 / len(recent))
        return (usual, now) if now - usual + _STANDARD_ERRORS * error < _NO_LOSS * usual else None

    def snapshot(self) -> list[float]:
        """State as plain numbers."""
        return self.windows

    @staticmethod
    def load(state: Sequence[float]) -> "EstimatedLoss":
        """From a snapshot."""
        return EstimatedLoss(list(state))
