"""Distances between two distributions, from counts over the same bins or from two samples."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

_FLOOR = 1e-4


def _shares(counts: ArrayLike, floor: float) -> NDArray[np.float64]:
    values = np.asarray(counts, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or (values < 0).any() or not values.sum() > 0:
        raise ValueError(f"expected counts over at least one bin, none negative and not all zero, got {values!r}")
    shares = values / values.sum()
    return np.asarray(np.maximum(shares, floor)) if floor else np.asarray(shares)


def population_stability_index(reference: ArrayLike, current: ArrayLike, floor: float = _FLOOR) -> float:
    """PSI: the symmetrised Kullback-Leibler divergence of two histograms over the same bins.

    In time order it is above 0.2 in nearly every real window (seasons, growth), so it warns and never alone promotes anything.

    Parameters
    ----------
    reference, current : array, shape (bins,)
        Counts.
    floor
        Smallest share of a bin, so that an empty one does not make the index infinite.
    """
    expected, seen = _shares(reference, floor), _shares(current, floor)
    if expected.shape != seen.shape:
        raise ValueError(f"expected two histograms over the same bins, got {expected.size} and {seen.size} bins")
    return float(((seen - expected) * np.log(seen / expected)).sum())


def distances(
    reference: Sequence[NDArray[np.int64]], current: Sequence[NDArray[np.int64]], ordered: Sequence[bool], floor: float = _FLOOR
) -> NDArray[np.float64]:
    """Return four distances of many pairs of histograms at once: PSI, Jensen-Shannon, Kolmogorov-Smirnov, chi-square.

    The last is the statistic of the chi-square test of homogeneity by row, of two samples of the same size. Where bins have no order the third is the
    largest difference of a share.

    Parameters
    ----------
    reference, current
        Counts over the same bins, pair by pair; not all zero.
    ordered
        Whether a pair's bins have an order.

    Returns
    -------
    array, shape (n, 4)

    >>> distances([np.array([5, 5])], [np.array([9, 1])], [True]).round(3).tolist()
    [[0.879, 0.383, 0.4, 0.381]]
    """
    width = max(len(counts) for counts in reference)
    expected, seen = np.zeros((len(reference), width)), np.zeros((len(reference), width))
    lengths = np.array([len(counts) for counts in reference])
    for row, (first, second) in enumerate(zip(reference, current, strict=True)):
        expected[row, : len(first)], seen[row, : len(second)] = first, second
    real = np.arange(width) < lengths[:, None]
    expected, seen = (part / part.sum(axis=1, keepdims=True) for part in (expected, seen))
    p, q = (np.where(real, np.maximum(part, floor), 1.0) for part in (expected, seen))
    psi = ((q - p) * np.log(q / p)).sum(axis=1)
    middle = (expected + seen) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        divergence = [np.where(part > 0, part * np.log2(part / middle), 0.0).sum(axis=1) for part in (expected, seen)]
        chi2 = np.where(middle > 0, (expected - seen) ** 2 / (2 * middle), 0.0).sum(axis=1)
    js = np.sqrt(np.maximum(0.0, (divergence[0] + divergence[1]) / 2))
    difference = seen - expected
    ks = np.where(np.array(ordered), np.abs(np.cumsum(difference, axis=1)).max(axis=1), np.abs(difference).max(axis=1))
    return np.column_stack([psi, js, ks, chi2])
