"""Days whose effects correlate, by the thousand, and what a test that looks at every day says of them: NumPy on whole arrays, apart from the code."""

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.statistics.sequential_interval import critical_ratios

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]


def correlated_days(rng: np.random.Generator, runs: int, days: int, correlation: float, spread: float) -> Floats:
    """Return stationary day effects of mean 0 with a lag-1 correlation, shape (runs, days)."""
    noise = rng.normal(size=(runs, days))
    course = np.empty_like(noise)
    course[:, 0] = noise[:, 0]
    for day in range(1, days):
        course[:, day] = correlation * course[:, day - 1] + np.sqrt(1 - correlation**2) * noise[:, day]
    return spread * course


def decisions(days: Floats, level: float) -> tuple[Booleans, Booleans]:
    """Return whether the mean is shown to lie above 0, and below, at a look after each day, shape (runs, days) each.

    Pooled in pairs where neighbours correlate by more than 0.1, in fours where the pairs do and seven fours are there; seven blocks at least.
    """
    count = days.shape[1]
    looks = np.arange(1, count + 1)
    needed = np.concatenate([np.full(7, np.inf), critical_ratios(np.arange(7, count + 1), level)])
    blocks = {size: np.add.reduceat(days, np.arange(0, count, size), axis=1) / size for size in (1, 2, 4)}
    one, two = (_correlations(blocks[size])[:, np.maximum(looks // size - 1, 0)] for size in (1, 2))
    pooled = np.where(one > 0.1, np.where((two > 0.1) & (looks >= 28), 4, 2), 1)
    above, below = np.zeros(days.shape, np.bool_), np.zeros(days.shape, np.bool_)
    for size, values in blocks.items():
        last = np.maximum(looks // size - 1, 0)
        ratio = values.cumsum(axis=1)[:, last] / np.sqrt((values**2).cumsum(axis=1)[:, last])
        above |= (pooled == size) & (ratio >= needed[looks // size])
        below |= (pooled == size) & (-ratio >= needed[looks // size])
    return above, below


def _correlations(values: Floats) -> Floats:
    """Kendall's corrected lag-1 correlation of the first n columns for every n, shape (runs, columns)."""
    n = np.arange(1, values.shape[1] + 1)
    sums = values.cumsum(axis=1)
    mean = sums / n
    products = np.zeros_like(values)
    products[:, 1:] = (values[:, 1:] * values[:, :-1]).cumsum(axis=1)
    shared = products - mean * (sums - values) - mean * (sums - values[:, :1]) + (n - 1) * mean**2
    total = (values**2).cumsum(axis=1) - n * mean**2
    plain = np.divide(shared, total, out=np.zeros_like(shared), where=total > 0)
    return np.where(n < 3, 0.0, plain + (1 + 4 * np.maximum(plain, 0.0)) / n)
