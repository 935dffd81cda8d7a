"""How much of a correction is kept: as much as the days that it was fitted on agree about."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, stdtrit

from tidemill.shared.models.calibration import Calibration
from tidemill.shared.statistics.propensity import Weights, weighted_mean

Scores = NDArray[np.float64]
FLOOR = 1e-9
_SURE = 0.975
_WEEKS = 0.25
"""Standard deviation between the levels of weeks, in log odds: a few weeks' days cannot show it, because neighbouring days are alike."""


@dataclass(frozen=True, slots=True)
class LogOddsSample:
    """Scores that a correction is fitted on, as log odds.

    Attributes
    ----------
    labels, odds, weights, days : shape (n,)
        Truth, log odds of the scores, how many requests each stands for, and the number of its day.
    """

    labels: Scores
    odds: Scores
    weights: Scores
    days: NDArray[np.int64]

    @classmethod
    def of(cls, labels: Scores, scores: Scores, days: NDArray[np.int64], weights: Weights) -> "LogOddsSample":
        """Take scores."""
        return cls(labels, logit(np.clip(scores, FLOOR, 1 - FLOOR)), np.ones(len(labels)) if weights is None else weights, days)

    def level(self, odds: Scores) -> float:
        """Return by how much log odds have to be moved so that the mean score is the rate."""
        from scipy.optimize import brentq

        return float(brentq(lambda by: weighted_mean(expit(odds + by) - self.labels, self.weights), -50.0, 50.0))

    def kept_of_level(self, odds: Scores, level: float) -> float:
        """Return how much of a move by `level` is kept, 0 to 1."""
        rates = expit(odds + level)
        curvature = float((self.weights * rates * (1 - rates)).sum())
        seen = float(self._squares(rates, np.ones((len(odds), 1)))[0, 0]) / curvature**2
        return self._kept(level, seen + 7.0 * _WEEKS**2 / len(np.unique(self.days)))

    def kept_of_slope(self, slope: float, offset: float) -> float:
        """Return how much of the difference of a fitted slope from 1 is kept, 0 to 1."""
        rates = expit(slope * self.odds + offset)
        design = np.column_stack([self.odds, np.ones(len(self.odds))])
        inverse = np.linalg.inv(design.T @ (design * (self.weights * rates * (1 - rates))[:, None]) + 1e-9 * np.eye(2))
        return self._kept(slope - 1.0, float((inverse @ self._squares(rates, design) @ inverse)[0, 0]))

    def _squares(self, rates: Scores, design: Scores) -> Scores:
        """Return the sum over days of the squared sums of what pulls at a fit, shape (p, p)."""
        _, place = np.unique(self.days, return_inverse=True)
        pulls = self.weights * (self.labels - rates)
        sums = np.stack([np.bincount(place, pulls * column) for column in design.T], axis=1)
        count = len(sums)
        return np.asarray(sums.T @ sums * (count / max(1, count - 1)), np.float64)

    def _kept(self, change: float, variance: float) -> float:
        """The non-negative garrote: nothing of a change within the bounds of noise, nearly all of one far beyond them."""
        count = len(np.unique(self.days))
        if count < 2 or change == 0.0:
            return 0.0
        return max(0.0, 1.0 - float(stdtrit(count - 1, _SURE)) ** 2 * variance / change**2)


def shrunk_line(sample: LogOddsSample, slope: float, offset: float) -> Calibration | None:
    """Return a fitted line of the log odds, drawn towards the identity by the evidence; None where nothing of it is left.

    Slope and level (the move of the mean score to the rate) are drawn apart. How much the days differ says how sure each is; a week whose days are
    all above the scores says little of the next week, so a level needs more evidence than a slope.

    References
    ----------
    Breiman: Better subset regression using the nonnegative garrote. Technometrics 37 (1995). Liang and Zeger: Longitudinal data analysis using
    generalized linear models. Biometrika 73 (1986): variance by clusters.
    """
    kept = 1.0 + sample.kept_of_slope(slope, offset) * (slope - 1.0)
    middle = weighted_mean(sample.odds, sample.weights)
    turned = middle + kept * (sample.odds - middle)
    level = sample.level(turned)
    moved = middle * (1.0 - kept) + sample.kept_of_level(turned, level) * level
    return Calibration(link="logit", slope=kept, offsets=(moved,)) if kept != 1.0 or moved != 0.0 else None


def shrunk_level(sample: LogOddsSample, line: Calibration) -> Calibration:
    """Return a fitted rising line whose level is drawn back to the scores' own by the evidence."""
    level = sample.level(sample.odds)
    back = (1.0 - sample.kept_of_level(sample.odds, level)) * level
    return line.model_copy(update={"levels": tuple(expit(logit(np.array(line.levels)) - back).tolist())})
