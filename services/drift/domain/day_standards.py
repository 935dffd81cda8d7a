"""A day as one standard normal value: against what a model promises, or against the days before it."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from scipy.special import ndtri, stdtr

_DAYS_KEPT = 60
_PRIOR_DAYS = 5
_KNOWN_DAYS = 7
_CLUSTER_ERRORS = 3.5
_FIRST_DAYS = 5
_FARTHEST = 6.0
_LEAST_VARIANCE = 1e-12
# Of a mean relative error, which is in [0, 1]: days that differ by less are alike, however many rows they have.
_LEAST_DEVIATION = 1e-3


class DayStandard(Protocol):
    """Makes a day's sums (rows, and those of `Kept.columns`) a value that is standard normal while nothing changes, larger for larger losses."""

    @property
    def spread(self) -> float:
        """Variance of days' means in units of that of independent rows, at least 1; a change of level or two leaves it as it is."""
        ...

    @property
    def days_known(self) -> bool:
        """Whether enough days were looked at to tell whether rows cluster."""
        ...

    @property
    def clustered(self) -> bool:
        """Whether days differ by more than independent rows do, beyond 3.5 standard errors; not before enough days are known."""
        ...

    def value(self, block: list[float]) -> float | None:
        """Take a day; None as long as there is nothing to hold it against."""
        ...

    def begin(self) -> None:
        """Begin anew after a change of level, or with another champion; how much days differ is kept."""
        ...

    def beyond_before(self, block: list[float], value: float | None) -> float | None:
        """Return how far a day lies from what it was like before the last change of level, in standard deviations; None where that is not known.

        Parameters
        ----------
        value
            What `value` said of the day.
        """
        ...

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists and numbers."""
        ...

    def load(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        ...


def _beyond_independent(spread: float, days: int) -> bool:
    return bool(days >= _KNOWN_DAYS and spread > 1 + _CLUSTER_ERRORS * np.sqrt(3 / (_PRIOR_DAYS + days)))


def spread(means: list[float], variances: list[float], jumps: int = 0) -> float:
    """Return the variance of days' means in units of that of independent rows, at least 1.

    The mean square of their standardised differences over one, two and three days, the largest, with five days of prior. With `jumps`, as many
    differences as so many changes of level can move are left out.
    """
    mean, variance, largest = np.array(means), np.array(variances), 1.0
    for lag in (1, 2, 3):
        squares = np.sort((mean[lag:] - mean[:-lag]) ** 2 / np.maximum(variance[lag:] + variance[:-lag], _LEAST_VARIANCE))
        squares = squares[: max(0, len(squares) - lag * jumps)]
        largest = max(largest, float((_PRIOR_DAYS + squares.sum()) / (_PRIOR_DAYS + len(squares))))
    return largest


@dataclass(slots=True)
class CalibratedDays:
    """Against a model's own probabilities: excess loss has mean zero, and the variance of independent rows times the spread of the days.

    Parameters
    ----------
    tolerance
        Excess that is none yet, as a share of the loss that is expected. No probabilities are quite right: with enough labels any would ring.
    """

    tolerance: float = 0.0
    recent: list[float] = field(default_factory=list)

    @property
    def spread(self) -> float:
        """Of the last 60 days, one change of level left out."""
        return spread(self.recent, [1.0] * len(self.recent), jumps=1)

    @property
    def days_known(self) -> bool:
        """From seven days on."""
        return len(self.recent) >= _KNOWN_DAYS

    @property
    def clustered(self) -> bool:
        """By the last 60 days."""
        return _beyond_independent(self.spread, len(self.recent))

    def value(self, block: list[float]) -> float | None:
        """Take a day: its excess in standard deviations."""
        self.recent = [*self.recent, float(block[1] / np.sqrt(block[2]))][-_DAYS_KEPT:]
        beyond = (block[1] - self.tolerance * block[5]) / np.sqrt(block[2])
        return float(beyond / np.sqrt(spread(self.recent, [1.0] * len(self.recent))))

    def begin(self) -> None:
        """Keep how much days differ; what is promised needs no days."""

    def beyond_before(self, block: list[float], value: float | None) -> float | None:
        """Return the value: what is promised does not change with a level."""
        return value

    def snapshot(self) -> dict[str, Any]:
        """State."""
        return {"recent": self.recent}

    def load(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.recent = list(state["recent"])


@dataclass(slots=True)
class SelfStartingDays:
    """Against the champion's own days before: nothing promises how large a regression's errors are.

    A day's mean is held against mean and standard deviation of all days before it; Student's distribution makes that a standard normal value,
    exactly so for independent normal days, whose number, mean and variance need not be known. Expects (x, x^2) of bounded x in place of excess
    and variance.

    References
    ----------
    Hawkins: Self-starting CUSUM charts for location and scale. The Statistician 36 (1987).
    """

    means: list[float] = field(default_factory=list)
    variances: list[float] = field(default_factory=list)
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    before: list[float] = field(default_factory=list)

    @property
    def spread(self) -> float:
        """Of the last 60 days, one change of level left out."""
        return spread(self.means, self.variances, jumps=1)

    @property
    def days_known(self) -> bool:
        """From seven days on."""
        return len(self.means) >= _KNOWN_DAYS

    @property
    def clustered(self) -> bool:
        """By the last 60 days."""
        return _beyond_independent(self.spread, len(self.means))

    def value(self, block: list[float]) -> float | None:
        """Take a day: how far its mean lies from those before it."""
        rows, total, squares = block[:3]
        mean = total / rows
        self.means = [*self.means, mean][-_DAYS_KEPT:]
        self.variances = [*self.variances, max(squares / rows - mean * mean, _LEAST_VARIANCE) / rows][-_DAYS_KEPT:]
        surprise = None
        if self.count >= _FIRST_DAYS:
            distance = np.sqrt(self.count / (self.count + 1)) * (mean - self.mean) / self._deviation()
            surprise = float(np.clip(ndtri(stdtr(self.count - 1, distance)), -_FARTHEST, _FARTHEST))
        self.count += 1
        before, self.mean = self.mean, self.mean + (mean - self.mean) / self.count
        self.squares += (mean - before) * (mean - self.mean)
        return surprise

    def begin(self) -> None:
        """Forget the level, but for the comparison with it."""
        if self.count >= _FIRST_DAYS:
            self.before = [self.mean, self._deviation()]
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def beyond_before(self, block: list[float], value: float | None) -> float | None:
        """Return the distance from the mean of the level before, in its deviations."""
        return (block[1] / block[0] - self.before[0]) / self.before[1] if self.before else None

    def _deviation(self) -> float:
        return max(float(np.sqrt(self.squares / (self.count - 1))), _LEAST_DEVIATION)

    def snapshot(self) -> dict[str, Any]:
        """State."""
        return {name: getattr(self, name) for name in self.__slots__}

    def load(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.means, self.variances = list(state["means"]), list(state["variances"])
        self.count, self.mean, self.squares, self.before = state["count"], state["mean"], state["squares"], list(state["before"])
