"""Variances of what is left in a window after much has come and gone."""

import numpy as np
import pytest
from numba import njit

from tidemill.services.features.domain.kernels.sums import add, add_square, variance


@njit
def left_in_window(values, width, last):  # type: ignore[no-untyped-def]  # numba compiles it for the types it is called with
    """Return the variance of `width` times alternating `last` after all values have passed through a window of that width."""
    words = np.zeros(5)
    passing = np.concatenate((values, last[np.arange(width) % last.size]))
    for i in range(passing.size):
        words[4] = max(words[4], abs(passing[i]))
        add(words, 0, passing[i])
        add_square(words, 2, passing[i], 1.0)
        if i >= width:
            add(words, 0, -passing[i - width])
            add_square(words, 2, passing[i - width], -1.0)
    return variance(width, words[0], words[1], words[2], words[3], words[4])


@pytest.mark.parametrize("width", [2, 20])
@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_equal_values_have_no_spread_whatever_has_passed(width: int, scale: float) -> None:
    passed = np.random.default_rng(width).normal(2, 1, 1_000_000) * scale
    assert left_in_window(passed, width, np.array([0.009])) == 0.0


@pytest.mark.parametrize(("low", "high"), [(0.009, 0.02), (1e6, 1e6 + 1), (-5.0, 5.0)])
def test_a_spread_stays_exact_whatever_has_passed(low: float, high: float) -> None:
    passed = np.random.default_rng(3).normal(2, 1, 1_000_000) * max(abs(low), abs(high))
    assert left_in_window(passed, 2, np.array([low, high])) == pytest.approx((high - low) ** 2 / 2, rel=1e-9)
