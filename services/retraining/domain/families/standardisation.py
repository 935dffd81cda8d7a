"""Columns of mean 0 and variance 1, as the graph of a linear model makes them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.services.retraining.domain.families.family import Matrix, Scores


@dataclass(frozen=True, slots=True)
class Standardisation:
    """Means and scales of what is known of each column; a missing value counts as the mean.

    Both are numbers of 32 bits, because the graph's are: the offset of a large mean must not depend on who computes it.

    Attributes
    ----------
    means, scales : shape (columns,)
    """

    means: Scores
    scales: Scores

    @classmethod
    def of(cls, matrix: Matrix) -> "Standardisation":
        """Measure the columns; one that is constant, or never known, has the scale 1."""
        known = ~np.isnan(matrix)
        count = np.maximum(known.sum(axis=0), 1)
        means = (np.where(known, matrix, 0.0).sum(axis=0, dtype=np.float64) / count).astype(np.float32).astype(np.float64)
        spread = np.sqrt((np.where(known, matrix - means, 0.0) ** 2).sum(axis=0) / count).astype(np.float32).astype(np.float64)
        return cls(means, np.where(spread > 0, spread, 1.0))

    def __call__(self, rows: Matrix) -> NDArray[np.float64]:
        """Return rows in standard units, shape (n, columns)."""
        return np.where(np.isnan(rows), 0.0, (rows - self.means) / self.scales)
