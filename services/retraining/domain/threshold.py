"""The score from which an answer is yes."""

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.statistics.propensity import Weights

_TAIL = 1.0 - np.logspace(-2.3, -5.0, 28)
_LEVELS = np.unique(np.concatenate([np.arange(0.005, 1.0, 0.005), _TAIL, 1.0 - _TAIL]))


def best_threshold(labels: NDArray[np.float64], scores: NDArray[np.float64], weights: Weights = None) -> float:
    """Return the threshold with the best Cohen's kappa, of the scores' own quantiles.

    The quantiles are dense at both ends, because the scores of a rare class are all small. A threshold lies halfway to the next lower score,
    so that the last bits of a score decide nothing.

    Parameters
    ----------
    labels : shape (n,), 0 or 1, both there
    scores, weights : shape (n,)
    """
    order = np.argsort(scores, kind="stable")
    ordered, truth = scores[order], labels[order] > 0.5
    n = len(ordered)
    places = np.unique(np.searchsorted(ordered, np.quantile(ordered, _LEVELS, method="inverted_cdf"), side="left"))
    # From `place` on the answer is yes.
    sizes = np.ones(n) if weights is None else weights[order]
    total, positives = float(sizes.sum()), float((sizes * truth).sum())
    hits = positives - np.append(0.0, np.cumsum(sizes * truth))[places]
    answered = total - np.append(0.0, np.cumsum(sizes))[places]
    agreed = (hits + (total - positives - (answered - hits))) / total
    chance = (positives * answered + (total - positives) * (total - answered)) / total**2
    kappas = np.divide(agreed - chance, 1.0 - chance, out=np.full(len(places), -np.inf), where=chance < 1.0)
    place = int(places[int(np.argmax(kappas))])
    return float(ordered[0] / 2 if place == 0 else (ordered[place - 1] + ordered[place]) / 2)
