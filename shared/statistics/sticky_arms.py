"""How far two groups of entities may lie apart by chance alone, because they were drawn once and stay the same."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

BUCKETS = 50
"""Of each arm, by hash."""
_SURE_OF_SPREAD = 1.645


def bucket_of(draw: NDArray[np.float64], share: float) -> NDArray[np.int64]:
    """Return the bucket of each request by its draw, shape (n,): the first 50 are those of the arm that is below the share.

    Entities of one arm are spread over its buckets by the same hash that chose the arm, so a bucket is always the same random group of them.

    >>> bucket_of(np.array([0.0, 0.29, 0.3, 0.999]), 0.3).tolist()
    [0, 48, 50, 99]
    """
    below = draw < share
    place = np.where(below, draw / share, (draw - share) / (1 - share))
    return np.minimum((place * BUCKETS).astype(np.int64), BUCKETS - 1) + np.where(below, 0, BUCKETS)


@dataclass(slots=True)
class StickyArms:
    """Weights and sums of values by bucket, of every second block and of the others.

    Which entities an arm got does not average out over days: an arm with worse customers stays the arm with worse customers. Buckets tell how much
    that may be: what a bucket has in common with itself on other days is its entities', not the days'.

    Attributes
    ----------
    weights, sums : arrays, shape (2, 100)
    """

    weights: NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 2 * BUCKETS)))
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 2 * BUCKETS)))
    blocks: int = 0

    def add(self, weights: ArrayLike, sums: ArrayLike) -> None:
        """Take one more block, shape (100,) each."""
        half = self.blocks % 2
        self.weights[half] += np.asarray(weights, np.float64)
        self.sums[half] += np.asarray(sums, np.float64)
        self.blocks += 1

    def standard_error(self) -> float:
        """Return an upper bound of the standard deviation of what both arms' entities alone set between the arms; infinite before two blocks.

        Per arm the mean square of the buckets' deviations from the arm's mean, once with all blocks (which holds the noise of the days too), once as
        the product of those of both halves (which does not), plus 1.645 standard errors of that; the smaller one counts. Deviations weigh by labels.

        References
        ----------
        Liang and Zeger: Longitudinal data analysis using generalized linear models. Biometrika 73 (1986): the variance of clusters.
        """
        if self.blocks < 2:
            return float("inf")
        total = 0.0
        for arm in (slice(0, BUCKETS), slice(BUCKETS, 2 * BUCKETS)):
            weights, sums = self.weights[:, arm], self.sums[:, arm]
            all_weights, used = weights.sum(), int((weights.sum(axis=0) > 0).sum())
            if used < 2 or (weights.sum(axis=1) <= 0).any():
                return float("inf")
            correction = used / (used - 1)
            whole = (sums.sum(axis=0) - sums.sum() / all_weights * weights.sum(axis=0)) / all_weights
            halves = (sums - (sums.sum(axis=1) / weights.sum(axis=1))[:, None] * weights) / weights.sum(axis=1)[:, None]
            products = halves[0] * halves[1]
            spread = float(np.sqrt(((products - products.mean()) ** 2).sum() * correction))
            common = float(products.sum()) + _SURE_OF_SPREAD * spread
            total += correction * min(float((whole**2).sum()), max(common, 0.0))
        return float(np.sqrt(total))

    def snapshot(self) -> dict[str, Any]:
        """Return the state as JSON can hold it."""
        return {"weights": self.weights.tolist(), "sums": self.sums.tolist(), "blocks": self.blocks}

    @staticmethod
    def load(state: dict[str, Any]) -> "StickyArms":
        """From a snapshot."""
        return StickyArms(np.array(state["weights"]), np.array(state["sums"]), state["blocks"])
