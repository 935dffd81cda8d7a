"""How far days differ when nothing has happened: the null that a day's population stability index is held against."""

from collections.abc import Mapping, Sequence

import numpy as np

LEAST_WINDOWS = 30
WINDOWS_KEPT = 90
_LEVEL = 0.001
_LEAST_SCALE = 0.1
_SMALLEST = 1e-4


def shift_bounds(null: Mapping[str, Sequence[float]], least: float) -> dict[str, float]:
    """Return by feature the index from which a day is further from the reference than the reference's own days were from what came before them.

    A day of rows is not a sample of a year of rows: it has one weather, one weekday, a day's size. So it is held against days. The logarithms of the
    null are scaled by each feature's median and median absolute deviation and pooled over the features, which gives a tail that no feature has days
    enough for: one of 1,000 days lies beyond. Features with fewer than 30 such windows have no bound.

    Parameters
    ----------
    null
        Index of each of the reference's days against the rows before it.
    least
        No bound is lower.
    """
    logs = {name: np.log(np.maximum(np.array(values), _SMALLEST)) for name, values in null.items() if len(values) >= LEAST_WINDOWS}
    centre = {name: float(np.median(values)) for name, values in logs.items()}
    scale = {name: max(_LEAST_SCALE, 1.4826 * float(np.median(np.abs(values - centre[name])))) for name, values in logs.items()}
    if not logs:
        return {}
    pooled = np.concatenate([(values - centre[name]) / scale[name] for name, values in logs.items()])
    reach = float(np.quantile(pooled, 1 - _LEVEL))
    return {name: max(least, float(np.exp(centre[name] + reach * scale[name]))) for name in logs}
