"""Counts of durations, rounded: quantiles of as many as come, in as much memory as a few thousand numbers take."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
_DIGITS = 3


@dataclass(slots=True)
class RoundedCounts:
    """How often each duration came, in milliseconds, rounded towards 0 to three digits.

    Attributes
    ----------
    counts
        By rounded duration.
    """

    counts: dict[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return how many durations came."""
        return sum(self.counts.values())

    def add(self, durations_ms: Float64 | Int64) -> None:
        """Count durations, finite numbers of shape (n,)."""
        size = np.maximum(np.abs(durations_ms), 1.0)
        step = 10.0 ** np.maximum(np.floor(np.log10(size)) - (_DIGITS - 1), 0)
        rounded = np.trunc(durations_ms / step) * step
        for value, count in zip(*(part.tolist() for part in np.unique(rounded, return_counts=True)), strict=True):
            self.counts[int(value)] = self.counts.get(int(value), 0) + count

    def quantile(self, share: float) -> float:
        """Return the least duration that a share of them does not exceed; NaN without any.

        >>> RoundedCounts({10: 1, 20: 1}).quantile(0.5)
        10.0
        """
        if not self.counts:
            return float("nan")
        values = sorted(self.counts)
        passed = np.cumsum([self.counts[value] for value in values])
        return float(values[int(np.searchsorted(passed, share * passed[-1]))])

    def snapshot(self) -> dict[str, int]:
        """State as plain texts and numbers."""
        return {str(value): count for value, count in self.counts.items()}

    @staticmethod
    def load(state: dict[str, int]) -> "RoundedCounts":
        """From a snapshot."""
        return RoundedCounts({int(value): count for value, count in state.items()})
