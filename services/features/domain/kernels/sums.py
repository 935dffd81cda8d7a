"""Sums that forget nothing: what enters a window and leaves it again is gone without a trace in the figures served.

A sum is two floats, the sum and the rest that rounding took from it (Neumaier, 1974; TwoSum: Knuth, TAOCP 2, 4.2.2). Squares are exact
products in two floats (Dekker, 1971), so variances need no shift and do not depend on the order of the records. Two floats are not all of a sum,
though: a large value that has left may leave some 1e-32 of its square behind, which next to equal values would be all the variance there is. So the
largest value goes with the sums. A variance that rounding alone explains is zero, and where the largest has left and what remains is so small beside
it that the two floats no longer hold it, the sums are made anew from what is in the window (`windows.refresh`).

No finite value overflows: sums of values from 2**400 on are kept in units of 2**600, sums of values below 2**-400 in units of 2**-600.
"""

import numpy as np

from tidemill.services.features.domain.kernels.compiled import inner

_SPLIT = 134217729.0
_LARGE = 2.0**990
_HUGE, _TINY = 2.0**400, 2.0**-400
_TO_HUGE, _TO_TINY = 2.0**-600, 2.0**600
# Beside the largest value that has left: what remains below this share of it is looked at again.
_FAINT = 2.0**-30
_TIGHT = 2.0**-20
# Times the largest value: the standard deviation below which there is none. Five million values that came and went left up to 11 units of roundoff.
_TRACE = 64.0 * 2.0**-53


@inner
def add(words, at, x):  # pragma: no cover
    """Add `x` to the sum at `at`; subtracting is adding -x."""
    a = words[at]
    s = a + x
    b = s - a
    words[at] = s
    words[at + 1] += (a - (s - b)) + (x - b)


@inner
def product_rest(a, b, p):  # pragma: no cover
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
def _settled(a, b):  # pragma: no cover
    """Return a + b as the nearest float and what that leaves (TwoSum)."""
    s = a + b
    c = s - a
    return s, (a - (s - c)) + (b - c)


@inner
def add_square(words, at, x, sign):  # pragma: no cover
    """Add sign * x * x to the squares at `at`."""
    p = x * x
    add(words, at, sign * p)
    words[at], words[at + 1] = _settled(words[at], words[at + 1] + sign * product_rest(x, x, p))


@inner
def unit(largest):  # pragma: no cover
    """What a value is multiplied with before it is added to sums whose largest magnitude is this."""
    if largest >= _HUGE:
        return _TO_HUGE
    if largest < _TINY and largest > 0.0:
        return _TO_TINY
    return 1.0


@inner
def is_plain(largest):  # pragma: no cover
    """Whether sums with this largest magnitude are kept as they are."""
    return largest < _HUGE and largest >= _TINY


@inner
def lost(n, s, s_rest, q, q_rest, squares, largest):  # pragma: no cover
    """Whether sums of n values no longer hold what remains after the largest (in the sums' units) has left them."""
    total = abs(s + s_rest)
    if total < _FAINT * largest:
        return True
    if not squares:
        return False
    power, peak = q + q_rest, largest * largest
    if power < _FAINT * peak:
        return True
    return 16.0 * power < n * peak and n * power - total * total < _TIGHT * n * power


@inner
def variance(n, s, s_rest, q, q_rest, largest):  # pragma: no cover
    """Sample variance of n values with sum s and squares q, after values up to `largest`; NaN below two values."""
    if n < 2:
        return np.nan
    # Values that have left may have swelled the rests: as they are, the squares of rests would be missing below.
    s, s_rest = _settled(s, s_rest)
    q, q_rest = _settled(q, q_rest)
    m = float(n)
    p1 = m * q
    p2 = s * s
    rest = product_rest(m, q, p1) + m * q_rest - product_rest(s, s, p2) - 2.0 * s * s_rest
    v = ((p1 - p2) + rest) / (m * (m - 1.0))
    trace = _TRACE * largest
    return v if v > trace * trace else 0.0
