"""What each input contributes to a score: Shapley values against stored rows (interventional), for any model by random orders.

The value of a set of inputs is the mean score over the stored rows with those inputs replaced by the explained row's.

References
----------
Strumbelj and Kononenko: Explaining prediction models and individual predictions with feature contributions. KAIS 41, 2014 (permutations).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Float64 = NDArray[np.float64]
Method = Literal["tree", "linear", "permutations"]
Unit = Literal["log-odds", "margin", "score", "probability"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Contributions that add up: ``base + contributions.sum()`` is the explained value.

    Attributes
    ----------
    method
        ``tree``, ``linear`` or ``permutations``.
    unit
        ``log-odds``; ``margin``, of several classes the logarithm of what a class's probability is proportional to; ``score`` (of a number);
        ``probability``.
    base
        Mean over the stored rows.
    contributions : shape (columns,)
    standard_errors : shape (columns,)
        0 where the method is exact.
    """

    method: Method
    unit: Unit
    base: float
    contributions: Float64
    standard_errors: Float64

    @property
    def value(self) -> float:
        """What is explained."""
        return self.base + float(self.contributions.sum())


@dataclass(frozen=True, slots=True)
class Explanations:
    """Contributions of many rows that add up: ``base + contributions.sum(axis=1)`` is what is explained.

    Attributes
    ----------
    method, unit
        As of `Explanation`.
    base : shape (n,)
        Mean over the stored rows; what the graph's 32 bits round off is in it.
    contributions : shape (n, columns)
    scores : shape (n,)
        What the model answers; of several classes the probability of the one that is asked about.
    adds_up : shape (n,)
        Whether the parts are those of the answer.
    """

    method: Method
    unit: Unit
    base: Float64
    contributions: Float64
    scores: Float64
    adds_up: NDArray[np.bool_]


def permutation_contributions(
    score: Callable[[Matrix], Float64], row: Matrix, background: Matrix, permutations: int = 32, seed: int = 7
) -> tuple[float, Float64, Float64]:
    """Return the mean score of the background, what each column adds, and its standard error, for any model.

    Columns are replaced one after the other in random orders, each order and its reverse, by the row's. In each order the steps add up to the whole
    difference, so the contributions do so exactly.
    """
    generator, columns = np.random.default_rng(seed), len(row)
    orders = []
    for _ in range(max(1, permutations // 2)):
        order = generator.permutation(columns)
        orders += [order, order[::-1]]
    steps = np.empty((len(orders), columns))
    base = float(score(background).mean())
    for i, order in enumerate(orders):
        mixed, before = background.copy(), base
        for column in order.tolist():
            mixed[:, column] = row[column]
            after = float(score(mixed).mean())
            steps[i, column], before = after - before, after
    pairs = steps.reshape(-1, 2, columns).mean(axis=1)
    errors = pairs.std(axis=0, ddof=1) / np.sqrt(len(pairs)) if len(pairs) > 1 else np.full(columns, np.nan)
    return base, pairs.mean(axis=0), errors
