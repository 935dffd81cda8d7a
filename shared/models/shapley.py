"""What each input contributes to a score: Shapley values against stored rows (interventional), exact for forests and linear models.

The value of a set of inputs is the mean score over the stored rows with those inputs replaced by the explained row's.

References
----------
Lundberg et al.: From local explanations to global understanding with explainable AI for trees. Nature Machine Intelligence 2, 2020 (algorithm 3).
Strumbelj and Kononenko: Explaining prediction models and individual predictions with feature contributions. KAIS 41, 2014 (permutations).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tidemill.shared.models.tree_paths import TreePaths

Matrix = NDArray[np.float32]
Float64 = NDArray[np.float64]
Method = Literal["tree", "linear", "permutations"]
Unit = Literal["log-odds", "score", "probability"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Contributions that add up: ``base + contributions.sum()`` is the explained value.

    Attributes
    ----------
    method
        ``tree``, ``linear`` or ``permutations``.
    unit
        ``log-odds``, ``score`` (of a number) or ``probability``.
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


def forest_contributions(paths: TreePaths, row: Matrix, background: Matrix) -> tuple[float, Float64]:
    """Return the mean margin of the background without the forest's own base, and what each column adds for one row.

    Parameters
    ----------
    row : shape (columns,), NaN where missing
    background : shape (m, columns)
    """
    found = np.zeros(len(row), np.float64)
    base = _add_leaves(
        paths.first, paths.columns, paths.thresholds, paths.missing_passes, paths.passes, paths.values,
        np.ascontiguousarray(row, np.float32), np.ascontiguousarray(background, np.float32), found,
    )  # fmt: skip
    return base / len(background), found / len(background)


@njit(cache=True)
def _add_leaves(first, columns, thresholds, missing_passes, passes, values, row, background, found):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add every leaf's share, for every stored row: a leaf is reached when some columns are the row's and some the stored row's."""
    weights = _shares()
    owner = np.zeros(row.size, np.int8)
    touched = np.empty(row.size, np.int64)
    base = 0.0
    for b in range(background.shape[0]):
        other = background[b]
        for leaf in range(values.size):
            mine, theirs, count, reached = 0, 0, 0, True
            for test in range(first[leaf], first[leaf + 1]):
                column = columns[test]
                ours = _leads_on(row[column], thresholds[test], missing_passes[test], passes[test])
                others = _leads_on(other[column], thresholds[test], missing_passes[test], passes[test])
                if ours and others:
                    continue
                wanted = 1 if ours else 2
                if not (ours or others) or owner[column] == 3 - wanted:
                    reached = False
                    break
                if owner[column] == 0:
                    owner[column] = wanted
                    touched[count] = column
                    count += 1
                    if ours:
                        mine += 1
                    else:
                        theirs += 1
            if reached:
                if mine == 0:
                    base += values[leaf]
                for i in range(count):
                    if owner[touched[i]] == 1:
                        found[touched[i]] += values[leaf] * weights[mine - 1, theirs]
                    else:
                        found[touched[i]] -= values[leaf] * weights[theirs - 1, mine]
            for i in range(count):
                owner[touched[i]] = 0
    return base


@njit(cache=True)
def _leads_on(value, threshold, missing_passes, passes):  # type: ignore[no-untyped-def]  # pragma: no cover
    answer = missing_passes if np.isnan(value) else value <= threshold
    return answer == passes


@njit(cache=True)
def _shares():  # type: ignore[no-untyped-def]  # pragma: no cover
    """``a! b! / (a + b + 1)!`` for numbers of columns up to the depth of a tree of 64 leaves."""
    found = np.empty((64, 64))
    for a in range(64):
        for b in range(64):
            share = 1.0 / (a + b + 1)
            for i in range(1, b + 1):
                share *= i / (a + i)
            found[a, b] = share
    return found


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
