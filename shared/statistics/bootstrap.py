"""Paired intervals and tests over blocks of rows (days), because rows of one day are not independent."""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidemill.shared.statistics.blocks import block_indices, drawn_blocks
from tidemill.shared.statistics.propensity import Weights, weighted_mean


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the bounds of its bootstrap percentile interval."""

    estimate: float
    low: float
    high: float


@numba.njit(cache=True)
def _wins(
    scores: NDArray[np.float64], positive: NDArray[np.bool_], blocks: NDArray[np.int64], weights: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    """Wins of block a's positives over block b's negatives, ties half; rows sorted by score."""
    wins = np.zeros((count, count))
    below = np.zeros(count)
    start = 0
    while start < scores.size:
        stop = start
        while stop < scores.size and scores[stop] == scores[start]:
            if not positive[stop]:
                below[blocks[stop]] += 0.5 * weights[stop]
            stop += 1
        for row in range(start, stop):
            if positive[row]:
                wins[blocks[row]] += weights[row] * below
        for row in range(start, stop):
            if not positive[row]:
                below[blocks[row]] += 0.5 * weights[row]
        start = stop
    return wins


def percentile_interval(estimate: float, values: NDArray[np.float64], level: float) -> Interval:
    """Return the bounds between which so large a share of the finite redrawn values lies; NaN where there is none."""
    values = values[np.isfinite(values)]
    if values.size == 0:
        return Interval(estimate, float("nan"), float("nan"))
    low, high = np.quantile(values, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(estimate, float(low), float(high))


def auc_difference_interval(
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    blocks: ArrayLike,
    repetitions: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    weights: Weights = None,
) -> Interval:
    """AUC(first) - AUC(second) on the same rows, with a paired percentile interval that redraws whole blocks.

    The U statistic is a quadratic form in the blocks' multiplicities, w' M w with M[a, b] the wins of block a's positives over block b's
    negatives, so M is counted once and a repetition costs one product instead of one pass over the rows.

    Parameters
    ----------
    labels, first, second, blocks : arrays, shape (n,)
        Truth (0 or 1), the two models' scores, and the block (day) of each row.
    repetitions, level, seed
        Bootstrap draws, coverage, and the seed that makes the interval reproducible.
    """
    truth = np.asarray(labels, dtype=np.float64)[:, None] > 0.5
    return _area_difference(
        truth, np.asarray(first, np.float64)[:, None], np.asarray(second, np.float64)[:, None], blocks, repetitions, level, seed, weights
    )


def class_auc_difference_interval(
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    blocks: ArrayLike,
    repetitions: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    weights: Weights = None,
) -> Interval:
    """As `auc_difference_interval` of several classes: the mean of each class's AUC against the rest, over the classes that some rows are of.

    Parameters
    ----------
    labels : array, shape (n,)
        Index of the class.
    first, second : arrays, shape (n, classes)
        The two models' probabilities.
    """
    left, right = np.asarray(first, np.float64), np.asarray(second, np.float64)
    truth = np.asarray(labels, np.int64)[:, None] == np.arange(left.shape[1])
    some = truth.any(axis=0) & ~truth.all(axis=0)
    return _area_difference(truth[:, some], left[:, some], right[:, some], blocks, repetitions, level, seed, weights)


def mean_difference_interval(
    first: ArrayLike,
    second: ArrayLike,
    blocks: ArrayLike,
    repetitions: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    weights: Weights = None,
) -> Interval:
    """Mean(first) - mean(second) of what each row has (a loss, an error), with a paired percentile interval that redraws whole blocks."""
    differences = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    if differences.size == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    indices, count = block_indices(blocks)
    drawn = drawn_blocks(count, repetitions, seed)[1:]
    sums = np.bincount(indices, differences if weights is None else weights * differences, minlength=count)
    sizes = np.bincount(indices, weights, minlength=count)
    return percentile_interval(weighted_mean(differences, weights), (drawn @ sums) / (drawn @ sizes), level)


def _area_difference(
    truth: NDArray[np.bool_],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    blocks: ArrayLike,
    repetitions: int,
    level: float,
    seed: int,
    weights: Weights,
) -> Interval:
    """Mean over columns of the difference of two AUCs; `truth`, `first` and `second` of shape (n, columns)."""
    indices, count = block_indices(blocks)
    if truth.size == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    drawn = drawn_blocks(count, repetitions, seed)
    sizes = np.ones(len(truth)) if weights is None else weights
    differences = []
    for column in range(truth.shape[1]):
        own = np.ascontiguousarray(truth[:, column])
        positives = drawn @ np.bincount(indices[own], sizes[own], minlength=count)
        negatives = drawn @ np.bincount(indices[~own], sizes[~own], minlength=count)
        areas = []
        for scores in (first, second):
            values = scores[:, column]
            order = np.argsort(values, kind="stable")
            wins = _wins(values[order], own[order], indices[order], sizes[order], count)
            with np.errstate(invalid="ignore", divide="ignore"):
                areas.append(((drawn @ wins) * drawn).sum(axis=1) / (positives * negatives))
        differences.append(areas[0] - areas[1])
    table = np.array(differences)
    known = np.isfinite(table)
    with np.errstate(invalid="ignore"):
        # A draw of blocks may lack a class: its mean is over the others.
        mean = np.where(known, table, 0.0).sum(axis=0) / known.sum(axis=0)
    return percentile_interval(float(mean[0]), mean[1:], level)
