"""The one probability of a row that calibration is measured by."""

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.kinds.kind import Kind


def answered_probability(kind: Kind, labels: NDArray[np.float64], scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return whether what was answered is true, and the probability given to it, both shape (n,).

    Binary: of the positive class. Multiclass: of the likeliest class.

    Parameters
    ----------
    labels : shape (n,)
    scores : shape (n,) or (n, K)
    """
    if kind.name == "binary":
        return labels, scores
    likeliest = np.argmax(scores, axis=1)
    return (likeliest == labels).astype(np.float64), scores[np.arange(len(scores)), likeliest]
