"""What a window knows of its values: count, sum and, where they are asked for, squares and extremes."""

import numpy as np

from services.features.domain.compiled import inner
from services.features.domain.layout import L_ACC_WORDS, L_MAX, L_MIN, L_SQUARES, SUM, N
from services.features.domain.sums import add, add_square


@inner
def empty(row, words, at, scalars):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Set the accumulator at `at` to nothing."""
    for i in range(at, at + scalars[L_ACC_WORDS]):
        row[i] = 0
    if scalars[L_MIN] >= 0:
        words[at + scalars[L_MIN]] = np.inf
    if scalars[L_MAX] >= 0:
        words[at + scalars[L_MAX]] = -np.inf


@inner
def take_in(row, words, at, x, scalars):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add a value to an accumulator. An extreme that is NaN has to be looked up again, and stays so."""
    row[at + N] += 1
    add(words, at + SUM, x)
    if scalars[L_SQUARES] >= 0:
        add_square(words, at + scalars[L_SQUARES], x, 1.0)
    if scalars[L_MIN] >= 0:
        low = words[at + scalars[L_MIN]]
        if x < low:
            words[at + scalars[L_MIN]] = x
    if scalars[L_MAX] >= 0:
        high = words[at + scalars[L_MAX]]
        if x > high:
            words[at + scalars[L_MAX]] = x


@inner
def forget_extremes(words, at, low, high, scalars):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Mark extremes as unknown that may have left with a record or cell."""
    if scalars[L_MIN] >= 0 and words[at + scalars[L_MIN]] == low:
        words[at + scalars[L_MIN]] = np.nan
    if scalars[L_MAX] >= 0 and words[at + scalars[L_MAX]] == high:
        words[at + scalars[L_MAX]] = np.nan
