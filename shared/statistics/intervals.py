"""How good prediction intervals are: how often they hold the truth, how wide they are, and the loss that their bounds minimise."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def interval_figures(labels: ArrayLike, lower: ArrayLike, upper: ArrayLike, coverage: float = 0.9) -> dict[str, float]:
    """Coverage, mean width and pinball loss over the rows that have an interval; empty when none has.

    The pinball loss is the mean of that of the lower bound at (1 - coverage) / 2 and of the upper one at (1 + coverage) / 2.

    Parameters
    ----------
    labels, lower, upper : arrays, shape (n,)
        Bounds are NaN where there was no interval.
    coverage
        What the intervals are meant to hold.

    Examples
    --------
    >>> {name: round(value, 3) for name, value in interval_figures([1.0, 5.0], [0.0, 0.0], [2.0, 4.0]).items()}
    {'coverage': 0.5, 'interval_width': 3.0, 'pinball_loss': 0.325}
    """
    truth, low, high = (np.asarray(values, np.float64) for values in (labels, lower, upper))
    known = np.isfinite(truth) & np.isfinite(low) & np.isfinite(high)
    if not known.any():
        return {}
    truth, low, high = truth[known], low[known], high[known]
    tail = (1.0 - coverage) / 2.0
    with np.errstate(over="ignore", invalid="ignore"):
        figures = {
            "coverage": float(((low <= truth) & (truth <= high)).mean()),
            "interval_width": float((high - low).mean()),
            "pinball_loss": float((pinball_losses(truth, low, tail).mean() + pinball_losses(truth, high, 1.0 - tail).mean()) / 2.0),
        }
    return {name: value for name, value in figures.items() if np.isfinite(value)}


def pinball_losses(labels: NDArray[np.float64], quantiles: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Loss of each row, shape (n,), whose mean the quantile of that share minimises."""
    errors = labels - quantiles
    losses: NDArray[np.float64] = np.maximum(share * errors, (share - 1.0) * errors)
    return losses
