"""Distances between two distributions, from counts over the same bins or from two samples."""

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


def jensen_shannon(reference: ArrayLike, current: ArrayLike) -> float:
    """Jensen-Shannon distance in base 2: 0 when equal, 1 when disjoint."""
    expected, seen = _shares(reference, 0.0), _shares(current, 0.0)
    if expected.shape != seen.shape:
        raise ValueError(f"expected two histograms over the same bins, got {expected.size} and {seen.size} bins")
    middle = (expected + seen) / 2.0

    def divergence(shares: NDArray[np.float64]) -> float:
        some = shares > 0
        return float((shares[some] * np.log2(shares[some] / middle[some])).sum())

    return float(np.sqrt(max(0.0, (divergence(expected) + divergence(seen)) / 2.0)))


def kolmogorov_smirnov(reference: ArrayLike, current: ArrayLike) -> float:
    """Largest difference of the two cumulative distributions, from ordered bins (a lower bound of the sample statistic)."""
    expected, seen = _shares(reference, 0.0), _shares(current, 0.0)
    if expected.shape != seen.shape:
        raise ValueError(f"expected two histograms over the same bins, got {expected.size} and {seen.size} bins")
    return float(np.abs(np.cumsum(expected) - np.cumsum(seen)).max())
