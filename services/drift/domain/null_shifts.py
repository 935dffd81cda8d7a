"""How windows differ when nothing has happened: what a window's distances from the reference are held against."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtri

from tidemill.services.drift.domain.shifts import STATISTICS, Shift

LEAST_WINDOWS = 30
WINDOWS_KEPT = 90
FALSE_SHARE = 0.1
_LEAST_SCALE = 0.1
_SMALLEST = 1e-3
_SQUARES = np.array([one in ("psi", "chi2") for one in STATISTICS])
_TAIL = 0.1
_COVERED = 0.9


@dataclass(frozen=True, slots=True)
class NullShifts:
    """What one champion's windows are held against.

    A week of rows is no sample of a year of rows: it has one weather, one holiday, a week's size. So it is held against weeks: the windows inside
    the reference, each against what came before it (but for the oldest third, which had little before them). Statistics are taken as lengths (the
    root of what is a sum of squares) and scaled by each feature's median and median absolute deviation, those of the other half of its windows (so
    that what is uncertain about them is in the tail), and pooled over the features. The tail is that of the normal distribution whose width covers
    nine of ten scores of the pooled upper tenth. Windows overlap, one ends with every day: 30 of them are
    five weeks. Features with fewer have no null.

    Attributes
    ----------
    centre, scale
        Of the lengths by feature, one of each statistic.
    width
        Standard deviation of the tail, one of each statistic.
    """

    centre: Mapping[str, list[float]] = field(default_factory=dict)
    scale: Mapping[str, list[float]] = field(default_factory=dict)
    width: list[float] = field(default_factory=list)

    @staticmethod
    def of(null: Mapping[str, Sequence[Sequence[float]]]) -> "NullShifts":
        """From the distances of each feature's windows, oldest first, shape (windows, statistics)."""
        enough = {name: rows for name, rows in null.items() if len(rows) >= LEAST_WINDOWS}
        if not enough:
            return NullShifts()
        lengths = {name: _lengths(rows[min(len(rows) // 3, len(rows) - LEAST_WINDOWS) :]) for name, rows in enough.items()}
        pooled = []
        for values in lengths.values():
            first, second = np.array_split(values, 2)
            pooled += [_scaled(second, first), _scaled(first, second)]
        scores = np.sort(np.concatenate(pooled), axis=0)
        tail = scores[int(len(scores) * (1 - _TAIL)) :]
        beyond = (np.arange(len(tail), 0, -1) - 0.5) / len(scores)
        width = np.maximum(np.quantile(tail / -ndtri(beyond)[:, None], _COVERED, axis=0), 1.0)
        fits = {name: _fit(values) for name, values in lengths.items()}
        return NullShifts(
            {name: centre.tolist() for name, (centre, _) in fits.items()}, {name: scale.tolist() for name, (_, scale) in fits.items()}, width.tolist()
        )

    def log_e(self, shifts: Mapping[str, Shift]) -> dict[str, float]:
        """Return the logarithm of an e-value against "this window differs as windows do", for each feature that has a null.

        Each statistic's tail probability is calibrated to an e-value, (1 - p + p ln p) / (p ln^2 p); the mean of the four is one as well.

        References
        ----------
        Vovk, Wang: E-values: calibration, combination and applications. Annals of Statistics 2021.
        """
        names = [name for name in shifts if name in self.centre]
        if not names:
            return {}
        values = _lengths([[getattr(shifts[name], one) for one in STATISTICS] for name in names])
        scores = (values - np.array([self.centre[name] for name in names])) / np.array([self.scale[name] for name in names])
        log_p = np.minimum(log_ndtr(-scores / np.array(self.width)), np.log(0.5))
        each = np.log(1 - np.exp(log_p) + np.exp(log_p) * log_p) - log_p - 2 * np.log(-log_p)
        mean = np.logaddexp.reduce(each, axis=1) - np.log(each.shape[1])
        return dict(zip(names, mean.tolist(), strict=True))

    def snapshot(self) -> list[Any]:
        """State as plain lists and numbers."""
        return [dict(self.centre), dict(self.scale), self.width]

    @staticmethod
    def load(state: Sequence[Any]) -> "NullShifts":
        """From a snapshot."""
        return NullShifts(*state)


def level(looks: int, discoveries: int) -> float:
    """Return the level of a champion's look number `looks`, from 1, when so many shifts have been found before it (e-LOND).

    At most a tenth of all that is ever found is false, in expectation, whatever depends on what: the levels of all looks add up to a tenth, times
    what has been found.

    References
    ----------
    Xu, Ramdas: Online multiple testing with e-values. AISTATS 2024.

    >>> sum(level(look, 0) for look in range(1, 100_000)) < FALSE_SHARE
    True
    """
    share = 0.5 / (looks * (1 + np.log(looks)) ** 2)
    return float(FALSE_SHARE * share * (discoveries + 1))


def _lengths(statistics: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Return statistics as lengths: the roots of those that are sums of squares."""
    values = np.maximum(np.array(statistics, dtype=np.float64), 0.0)
    return np.where(_SQUARES, np.sqrt(values), values)


def _fit(lengths: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    centre = np.median(lengths, axis=0)
    spread = 1.4826 * np.median(np.abs(lengths - centre), axis=0)
    return centre, np.maximum(spread, np.maximum(_LEAST_SCALE * centre, _SMALLEST))


def _scaled(values: NDArray[np.float64], by: NDArray[np.float64]) -> NDArray[np.float64]:
    centre, scale = _fit(by)
    return np.asarray((values - centre) / scale, dtype=np.float64)
