"""What a window knows of its values: count, sum and, where they are asked for, squares and extremes."""

import numpy as np

from tidemill.services.features.domain.kernels.compiled import inner
from tidemill.services.features.domain.kernels.sums import add, add_square, is_plain, lost, unit, variance
from tidemill.services.features.domain.kernels.words import LARGEST, SUM, SUM_REST, N


@inner
def empty(words, floats, at, accumulator):  # pragma: no cover
    """Set the accumulator at `at` to nothing."""
    for i in range(at, at + accumulator.words):
        words[i] = 0
    if accumulator.low >= 0:
        floats[at + accumulator.low] = np.inf
    if accumulator.high >= 0:
        floats[at + accumulator.high] = -np.inf


@inner
def change_unit(floats, at, before, after, accumulator):  # pragma: no cover
    """Bring sums from one unit to another (`sums.unit`); twice for squares, as the factor's own square is no float."""
    share = after / before
    floats[at + SUM] *= share
    floats[at + SUM_REST] *= share
    squares = accumulator.squares
    if squares >= 0:
        floats[at + squares] = floats[at + squares] * share * share
        floats[at + squares + 1] = floats[at + squares + 1] * share * share


@inner
def take_in(words, floats, at, x, accumulator):  # pragma: no cover
    """Add a value to an accumulator. An extreme that is NaN has to be looked up again, and stays so."""
    words[at + N] += 1
    y, largest = x, abs(floats[at + LARGEST])
    if abs(x) >= largest:
        if not (is_plain(largest) and is_plain(abs(x))):
            change_unit(floats, at, unit(largest), unit(abs(x)), accumulator)
        largest = abs(x)
        floats[at + LARGEST] = largest
    if not is_plain(largest):
        y = x * unit(largest)
    add(floats, at + SUM, y)
    if accumulator.squares >= 0:
        add_square(floats, at + accumulator.squares, y, 1.0)
    if accumulator.low >= 0:
        low = floats[at + accumulator.low]
        if x < low:
            floats[at + accumulator.low] = x
    if accumulator.high >= 0:
        high = floats[at + accumulator.high]
        if x > high:
            floats[at + accumulator.high] = x


@inner
def forget_extremes(floats, at, low, high, accumulator):  # pragma: no cover
    """Mark extremes as unknown that may have left with a record or cell."""
    if accumulator.low >= 0 and floats[at + accumulator.low] == low:
        floats[at + accumulator.low] = np.nan
    if accumulator.high >= 0 and floats[at + accumulator.high] == high:
        floats[at + accumulator.high] = np.nan


@inner
def take_cell(floats, at, cells, cell, accumulator, sign):  # pragma: no cover
    """Add the sums of a cell, or take them away (sign -1.0), whose largest is not above that of the sums it goes to."""
    largest, other = abs(floats[at + LARGEST]), cells[cell + LARGEST]
    share = sign
    if not (is_plain(largest) and is_plain(other)):
        share = sign * (unit(largest) / unit(other))
    add(floats, at + SUM, cells[cell + SUM] * share)
    floats[at + SUM_REST] += cells[cell + SUM_REST] * share
    squares = accumulator.squares
    if squares >= 0:
        add(floats, at + squares, cells[cell + squares] * share * abs(share))
        floats[at + squares + 1] += cells[cell + squares + 1] * share * abs(share)


@inner
def are_lost(words, floats, at, accumulator):  # pragma: no cover
    """Whether the sums of an accumulator have to be made anew, see `sums.lost`."""
    largest = floats[at + LARGEST]
    if not largest < 0.0:
        return False
    squares = accumulator.squares
    q, q_rest = (floats[at + squares], floats[at + squares + 1]) if squares >= 0 else (0.0, 0.0)
    return lost(words[at + N], floats[at + SUM], floats[at + SUM_REST], q, q_rest, squares >= 0, -largest * unit(-largest))


@inner
def mean_of(words, floats, at):  # pragma: no cover
    """Return the mean of an accumulator that is not empty, in the unit of its sums."""
    return (floats[at + SUM] + floats[at + SUM_REST]) / words[at + N]


@inner
def spread_of(words, floats, at, accumulator):  # pragma: no cover
    """Return the variance, in the square of the unit of its sums."""
    squares = at + accumulator.squares
    largest = abs(floats[at + LARGEST])
    return variance(words[at + N], floats[at + SUM], floats[at + SUM_REST], floats[squares], floats[squares + 1], largest * unit(largest))
