"""What held-out scores say about a recipe, as part of it: the correction of its probabilities, the spread of its errors."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.models.calibration import Calibration

CALIBRATION, INTERVAL, CLASS_WEIGHT = "calibration", "interval", "class_weight"
"""Names among a recipe's parameters, of texts as they stand in the lifecycle log."""

_COVERAGE = 0.9


def calibration_of(parameters: Mapping[str, Any]) -> Calibration | None:
    """Return a recipe's correction."""
    return Calibration.model_validate_json(parameters[CALIBRATION]) if CALIBRATION in parameters else None


def interval_of(parameters: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return what is added to a score for the ends of its prediction interval."""
    if INTERVAL not in parameters:
        return None
    low, high = json.loads(parameters[INTERVAL])
    return float(low), float(high)


def residual_interval(labels: NDArray[np.float64], scores: NDArray[np.float64], coverage: float = _COVERAGE) -> str:
    """Return the ends of a 90 % interval around a score, as text: split-conformal quantiles of the residuals of rows that were not learned from.

    Each end leaves out at most half of the rest, whatever the residuals' distribution, as long as rows can be exchanged. Too few rows for that give
    the whole range of what was seen.

    References
    ----------
    Vovk, Gammerman, Shafer: Algorithmic learning in a random world (2005), section 4.1.
    """
    residuals, tail = np.sort(labels - scores), (1.0 - coverage) / 2
    n = len(residuals)
    place = min(n - 1, int(np.ceil((n + 1) * (1 - tail))) - 1)
    return json.dumps([float(residuals[n - 1 - place]), float(residuals[place])])
