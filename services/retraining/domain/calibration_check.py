"""Whether a model's probabilities mean less than another's: the one check of all gates."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.services.retraining.domain.probabilities import answered_probability
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.statistics.bootstrap import Interval
from tidemill.shared.statistics.calibration import calibration_difference_interval, calibration_interval
from tidemill.shared.statistics.propensity import Weights, weighted_mean

CALIBRATION_MARGIN = 0.02
"""A candidate's calibration error may be larger by this."""


@dataclass(frozen=True, slots=True)
class CalibrationCheck:
    """The calibration of a model beside another's, on the same rows.

    Attributes
    ----------
    error
        The model's own calibration error, with its 95 % interval over blocks.
    difference, low
        By how much the error is larger than the other's, and the lower 95 % bound of that.
    figures
        For the record of the training.
    """

    error: Interval
    difference: float
    low: float
    figures: dict[str, float]

    @property
    def problem(self) -> str:
        """What is wrong; empty unless the error is surely larger by more than the margin."""
        if self.low <= CALIBRATION_MARGIN:
            return ""
        allowed = f"expected an error larger than the other model's by at most {CALIBRATION_MARGIN:g}"
        return f"calibration: {allowed}, found {self.error.estimate:.3f}, larger by {self.difference:.3f} (at least {self.low:.3f} at 95 %)"


def calibration_of(
    kind: Kind, labels: NDArray[np.float64], scores: NDArray[np.float64], blocks: NDArray[np.int64], weights: Weights = None
) -> tuple[Interval, dict[str, float]]:
    """Return a model's calibration error with its 95 % interval, and its figures.

    Parameters
    ----------
    labels, blocks, weights : shape (n,)
        Truth, and the number of the block (day) of each row.
    scores : shape (n,) or (n, K)
    """
    truth, answered = answered_probability(kind, labels, scores)
    own = calibration_interval(truth, answered, blocks, weights=weights)
    figures = {"score_mean": weighted_mean(answered, weights), "positive_rate": weighted_mean(truth, weights)}
    return own, figures | {"calibration_error": own.estimate, "calibration_error_low": own.low, "calibration_error_high": own.high}


def compare_calibration(
    kind: Kind,
    labels: NDArray[np.float64],
    mine: NDArray[np.float64],
    theirs: NDArray[np.float64],
    blocks: NDArray[np.int64],
    weights: Weights = None,
) -> CalibrationCheck:
    """Hold a model's calibration against another's on the same rows.

    Parameters
    ----------
    labels, blocks, weights : shape (n,)
    mine, theirs : shape (n,) or (n, K)
    """
    own, figures = calibration_of(kind, labels, mine, blocks, weights)
    if kind.name == "binary":
        worse = calibration_difference_interval(labels, mine, theirs, blocks, weights=weights)
        difference, low = worse.estimate, worse.low
    else:  # Each of the two answers another class of a row: the errors are of different events.
        truth, answered = answered_probability(kind, labels, theirs)
        against = calibration_interval(truth, answered, blocks, weights=weights)
        difference, low = own.estimate - against.estimate, own.low - against.high
    return CalibrationCheck(own, difference, low, figures | {"calibration_difference": difference, "calibration_difference_low": low})
