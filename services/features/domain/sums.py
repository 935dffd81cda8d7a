"""Sums that forget nothing: what enters a window and leaves it again is gone without a trace in the figures served.

A sum is two floats, the sum and the rest that rounding took from it (Neumaier, 1974; TwoSum: Knuth, TAOCP 2, 4.2.2). Squares are exact
products in two floats (Dekker, 1971), so variances need no shift and do not depend on the order of the records.
"""

import numpy as np

from services.features.domain.compiled import inner

_SPLIT = 134217729.0
_LARGE = 1e150


@inner
def add(words, at, x):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add `x` to the sum at `at`; subtracting is adding -x."""
    a = words[at]
    s = a + x
    b = s - a
    words[at] = s
    words[at + 1] += (a - (s - b)) + (x - b)


@inner
def product_rest(a, b, p):  # type: ignore[no-untyped-def]  # pragma: no cover
    """What rounding took from p = a * b."""
    if abs(a) > _LARGE or abs(b) > _LARGE:
        return 0.0
    c = _SPLIT * a
    a1 = c - (c - a)
    a2 = a - a1
    c = _SPLIT * b
    b1 = c - (c - b)
    b2 = b - b1
    return ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2


@inner
def add_square(words, at, x, sign):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add sign * x * x."""
    p = x * x
    add(words, at, sign * p)
    words[at + 1] += sign * product_rest(x, x, p)


@inner
def variance(n, s, s_rest, q, q_rest):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Sample variance of n values with sum s and squares q; NaN below two values."""
    if n < 2:
        return np.nan
    m = float(n)
    p1 = m * q
    p2 = s * s
    rest = product_rest(m, q, p1) + m * q_rest - product_rest(s, s, p2) - 2.0 * s * s_rest
    v = ((p1 - p2) + rest) / (m * (m - 1.0))
    return v if v > 0.0 else 0.0
