"""Whether a model errs more than its own probabilities promise, day by day."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

DAY_MS = 86_400_000
_SHIFTS = (0.25, 0.5, 1.0)
_LEAST_ROWS = 30
_SURE = 1e-3
_DAYS_KEPT = 60
_PRIOR_DAYS = 5
_QUIET_DAYS = 14


@dataclass(frozen=True, slots=True)
class Excess:
    """An alarm: the run of days that raised it.

    Attributes
    ----------
    statistic, bound
        The sum that crossed its bound.
    days, labels
        Of the run.
    loss
        Mean excess loss of the run.
    score_mean, positive_rate
        What was promised and what came.
    spread
        Variance of a day's mean, in units of that of independent rows.
    """

    statistic: float
    bound: float
    days: int
    labels: int
    loss: float
    score_mean: float
    positive_rate: float
    spread: float


def cusum_bound(shift: float, days: float) -> float:
    """Return the bound of a CUSUM of standard normal values with that reference shift, for a mean of so many values between false alarms.

    References
    ----------
    Siegmund: Sequential analysis. Springer 1985 (the corrected diffusion approximation).

    >>> round(cusum_bound(0.5, 930), 1)
    5.0
    """
    low, high = 0.0, 700.0 / (2 * shift)
    for _ in range(100):
        middle = (low + high) / 2
        b = 2 * shift * (middle + 1.166)
        low, high = (middle, high) if (np.exp(b) - b - 1) / (2 * shift**2) < days else (low, middle)
    return low


@dataclass(slots=True)
class ExcessLoss:
    """Detector on excess loss, (y - p)^2 - p (1 - p) = (y - p) (1 - 2 p), in blocks of a day of requests.

    The squared error of a perfect model moves with the base rate: over a year of flights, labels drawn from a model's own scores ring ADWIN
    dozens of times. Its excess loss has mean zero whatever the base rate. Rows of one day share weather, so a day's mean is one observation; its
    variance is that of independent rows times a spread, which the differences of the last days tell (by one, two and three days, the
    largest: a change of level moves few of them). The standardised days go into three one-sided CUSUMs for small, medium and large shifts;
    each rings so rarely that together a calibrated model rings once in `false_alarm_days`.

    A day is looked at when its label horizon has passed: before that the known labels are the early ones, which are not a fair sample. After an alarm
    the sums begin anew, and for 14 days none is given; the spread is kept, also by the next champion.

    Parameters
    ----------
    false_alarm_days
        Mean days between two alarms of a calibrated model.
    """

    false_alarm_days: float = 3650.0
    blocks: dict[int, dict[str, tuple[float, float]]] = field(default_factory=dict)
    closed_until: int = -(2**62)
    sums: list[float] = field(default_factory=lambda: [0.0] * len(_SHIFTS))
    runs: list[list[float]] = field(default_factory=lambda: [[0.0] * 5 for _ in _SHIFTS])
    carried: list[float] = field(default_factory=lambda: [0.0] * 5)
    recent: list[float] = field(default_factory=list)
    quiet: int = 0

    def absorb(self, keys: Sequence[str], request_ms: NDArray[np.int64], label: NDArray[np.float64], score: NDArray[np.float64]) -> None:
        """Take labels of requests; a second label of a request replaces the first, one of a day that was looked at comes too late."""
        for key, day, pair in zip(keys, (request_ms // DAY_MS).tolist(), zip(label.tolist(), score.tolist(), strict=True), strict=True):
            if day >= self.closed_until:
                self.blocks.setdefault(day, {})[key] = pair

    def close(self, time_ms: int, horizon_ms: int) -> Excess | None:
        """Look at the days whose horizon had passed at an instant; the first alarm among them."""
        ready = (time_ms - horizon_ms) // DAY_MS
        found = None
        for day in sorted(day for day in self.blocks if day < ready):
            label, score = np.array(list(self.blocks.pop(day).values())).T
            sure = np.clip(score, _SURE, 1 - _SURE)
            excess, variance = (label - score) * (1 - 2 * score), np.maximum(sure * (1 - sure) * (1 - 2 * sure) ** 2, _SURE**2)
            block = [float(len(label)), *(float(part.sum()) for part in (excess, variance, score, label))]
            self.carried = [one + more for one, more in zip(self.carried, block, strict=True)]
            if self.carried[0] >= _LEAST_ROWS:
                alarm = self._observe(self.carried)
                self.carried = [0.0] * len(self.carried)
                found = found or alarm
        self.closed_until = max(self.closed_until, ready)
        return found

    def reset(self) -> None:
        """Begin anew for a new champion; how much days differ is kept."""
        self.blocks, self.carried, self.quiet = {}, [0.0] * len(self.carried), 0
        self._begin()

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists and numbers."""
        blocks = [[day, [[key, *pair] for key, pair in rows.items()]] for day, rows in self.blocks.items()]
        plain = {name: getattr(self, name) for name in ("closed_until", "sums", "runs", "carried", "recent", "quiet")}
        return {**plain, "blocks": blocks}

    def load(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.blocks = {day: {key: (label, score) for key, label, score in rows} for day, rows in state["blocks"]}
        self.closed_until, self.quiet = state["closed_until"], state["quiet"]
        self.sums, self.carried, self.recent = list(state["sums"]), list(state["carried"]), list(state["recent"])
        self.runs = [list(run) for run in state["runs"]]

    def _observe(self, block: list[float]) -> Excess | None:
        rows, excess, variance, _, _ = block
        self.recent = [*self.recent, excess / np.sqrt(variance)][-_DAYS_KEPT:]
        value = self.recent[-1] / np.sqrt(self._spread())
        self.quiet = max(0, self.quiet - 1)
        found = None
        for i, shift in enumerate(_SHIFTS):
            self.sums[i] = max(0.0, self.sums[i] + float(value) - shift)
            # A run: its days, rows, excess, scores and positives since the sum was last zero.
            more = [1.0, rows, excess, block[3], block[4]]
            self.runs[i] = [one + add for one, add in zip(self.runs[i], more, strict=True)] if self.sums[i] else [0.0] * 5
            bound = cusum_bound(shift, len(_SHIFTS) * self.false_alarm_days)
            if found is None and self.sums[i] > bound and not self.quiet:
                days, labels, total, scores, positives = self.runs[i]
                found = Excess(
                    self.sums[i], bound, int(days), int(labels), total / labels, scores / labels, positives / labels, float(self._spread())
                )
        if found is not None:
            self._begin()
            self.quiet = _QUIET_DAYS
        return found

    def _spread(self) -> float:
        values, largest = np.array(self.recent), 1.0
        for lag in (1, 2, 3):
            differences = values[lag:] - values[:-lag]
            largest = max(largest, float((_PRIOR_DAYS + (differences**2).sum() / 2) / (_PRIOR_DAYS + len(differences))))
        return largest

    def _begin(self) -> None:
        self.sums, self.runs = [0.0] * len(_SHIFTS), [[0.0] * 5 for _ in _SHIFTS]
