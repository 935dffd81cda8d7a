"""How many requests a label stands for, where acting on a prediction hides the label of some."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Weights = NDArray[np.float64] | None
"""How many requests each row stands for, shape (n,); None where each stands for itself, which costs nothing."""


def weighted_mean(values: ArrayLike, weights: Weights) -> float:
    """Return the mean of n values; NaN without any."""
    numbers = np.asarray(values, np.float64)
    if weights is None:
        return float(numbers.mean()) if numbers.size else float("nan")
    return float((weights * numbers).sum() / weights.sum()) if numbers.size else float("nan")


def of_rows(weights: Weights, rows: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Weights:
    """Return the weights of some rows."""
    return None if weights is None else weights[rows]


def label_weights(control: ArrayLike, propensity: ArrayLike) -> NDArray[np.float64]:
    """Return the weight of each label, shape (n,).

    A label whose answer hides it stands for 1 / propensity requests if its request was in the control share, and for none otherwise: whatever came
    of a blocked payment is not what would have come of it. Every other label stands for its own request. Sums over labels with these weights
    are unbiased for sums over all requests, whatever the score was.

    Parameters
    ----------
    control : shape (n,)
        Whether the request is in the control share, 0 or 1; what is neither (null, NaN) counts as no.
    propensity : shape (n,)
        Probability with which the label can be seen; NaN of models without a control share.

    References
    ----------
    Horvitz and Thompson: A generalization of sampling without replacement from a finite universe. JASA 47 (1952).

    Examples
    --------
    >>> label_weights([1, 0, 0, np.nan], [0.05, 0.05, 1.0, np.nan]).tolist()
    [20.0, 0.0, 1.0, 1.0]
    """
    drawn, seen = np.asarray(control, np.float64) == 1.0, np.asarray(propensity, np.float64)
    with np.errstate(invalid="ignore"):
        hides = seen < 1.0
    weights: NDArray[np.float64] = np.where(hides, np.where(drawn, 1.0 / np.where(hides, seen, 1.0), 0.0), 1.0)
    return weights
