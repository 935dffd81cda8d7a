"""What a window knows of its values: count, sum and, where they are asked for, squares and extremes."""

import numpy as np

from tidemill.services.features.domain.kernels.compiled import inner
from tidemill.services.features.domain.kernels.layout import L_ACC_WORDS, L_MAX, L_MIN, L_SQUARES, LARGEST, SUM, SUM_REST, N
from tidemill.services.features.domain.kernels.sums import add, add_square, is_plain, lost, unit, variance


@inner
def empty(row, words, at, scalars):  # pragma: no cover
    """Set the accumulator at `at` to nothing."""
    for i in range(at, at + scalars[L_ACC_WORDS]):
        row[i] = 0
    if scalars[L_MIN] >= 0:
        words[at + scalars[L_MIN]] = np.inf
    if scalars[L_MAX] >= 0:
        words[at + scalars[L_MAX]] = -np.inf


@inner
def change_unit(words, at, before, after, scalars):  # pragma: no cover
    """Bring sums from one unit to another (`sums.unit`); twice for squares, as the factor's own square is no float."""
    share = after / before
    words[at + SUM] *= share
    words[at + SUM_REST] *= share
    squares = scalars[L_SQUARES]
    if squares >= 0:
        words[at + squares] = words[at + squares] * share * share
        words[at + squares + 1] = words[at + squares + 1] * share * share


@inner
def take_in(row, words, at, x, scalars):  # pragma: no cover
    """Add a value to an accumulator. An extreme that is NaN has to be looked up again, and stays so."""
    row[at + N] += 1
    y, largest = x, abs(words[at + LARGEST])
    if abs(x) >= largest:
        if not (is_plain(largest) and is_plain(abs(x))):
            change_unit(words, at, unit(largest), unit(abs(x)), scalars)
        largest = abs(x)
        words[at + LARGEST] = largest
    if not is_plain(largest):
        y = x * unit(largest)
    add(words, at + SUM, y)
    if scalars[L_SQUARES] >= 0:
        add_square(words, at + scalars[L_SQUARES], y, 1.0)
    if scalars[L_MIN] >= 0:
        low = words[at + scalars[L_MIN]]
        if x < low:
            words[at + scalars[L_MIN]] = x
    if scalars[L_MAX] >= 0:
        high = words[at + scalars[L_MAX]]
        if x > high:
            words[at + scalars[L_MAX]] = x


@inner
def forget_extremes(words, at, low, high, scalars):  # pragma: no cover
    """Mark extremes as unknown that may have left with a record or cell."""
    if scalars[L_MIN] >= 0 and words[at + scalars[L_MIN]] == low:
        words[at + scalars[L_MIN]] = np.nan
    if scalars[L_MAX] >= 0 and words[at + scalars[L_MAX]] == high:
        words[at + scalars[L_MAX]] = np.nan


@inner
def take_cell(words, at, cells, cell, scalars, sign):  # pragma: no cover
    """Add the sums of a cell, or take them away (sign -1.0), whose largest is not above that of the sums it goes to."""
    largest, other = abs(words[at + LARGEST]), cells[cell + LARGEST]
    share = sign
    if not (is_plain(largest) and is_plain(other)):
        share = sign * (unit(largest) / unit(other))
    add(words, at + SUM, cells[cell + SUM] * share)
    words[at + SUM_REST] += cells[cell + SUM_REST] * share
    squares = scalars[L_SQUARES]
    if squares >= 0:
        add(words, at + squares, cells[cell + squares] * share * abs(share))
        words[at + squares + 1] += cells[cell + squares + 1] * share * abs(share)


@inner
def are_lost(row, words, at, scalars):  # pragma: no cover
    """Whether the sums of an accumulator have to be made anew, see `sums.lost`."""
    largest = words[at + LARGEST]
    if not largest < 0.0:
        return False
    squares = scalars[L_SQUARES]
    q, q_rest = (words[at + squares], words[at + squares + 1]) if squares >= 0 else (0.0, 0.0)
    return lost(row[at + N], words[at + SUM], words[at + SUM_REST], q, q_rest, squares >= 0, -largest * unit(-largest))


@inner
def mean_of(row, words, at):  # pragma: no cover
    """Return the mean of an accumulator that is not empty, in the unit of its sums."""
    return (words[at + SUM] + words[at + SUM_REST]) / row[at + N]


@inner
def spread_of(row, words, at, scalars):  # pragma: no cover
    """Return the variance, in the square of the unit of its sums."""
    squares = at + scalars[L_SQUARES]
    largest = abs(words[at + LARGEST])
    return variance(row[at + N], words[at + SUM], words[at + SUM_REST], words[squares], words[squares + 1], largest * unit(largest))
