"""The loop that counts the values of slices: one pass over the columns, in the calling thread."""

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def add_numbers(
    values: Any,
    logs: Any,
    ends: Any,
    codes: Any,
    places: Any,
    unit: Any,
    missing: Any,
    outside: Any,
    has_log: Any,
    negative: Any,
    fractions: Any,
    log_sum: Any,
    log_squares: Any,
) -> None:  # pragma: no cover
    """Add what is counted of numbers to the sums of their slices.

    Parameters
    ----------
    values, logs : float64 arrays, shape (columns, rows)
        Numbers, NaN for none, and the logarithms of their magnitudes where these are finite and not zero.
    ends : float64 array, shape (2, columns)
        Between which values what was seen lies; NaN: all was.
    codes : int64 array, shape (rows, k)
        The slices of each row; -1 for none.
    places : int64 array, shape (columns,)
        Where the columns lie in the sums.
    unit
        Parts of one of a logarithm that are whole numbers.
    missing, outside, has_log, negative, fractions, log_sum, log_squares : int64 arrays, shape (slices, all columns)
        The sums.
    """
    for column in range(values.shape[0]):
        place, low, high = places[column], ends[0, column], ends[1, column]
        for row in range(values.shape[1]):
            value, log = values[column, row], logs[column, row]
            is_outside = value < low or value > high
            is_finite = np.isfinite(value) and value != 0
            for k in range(codes.shape[1]):
                code = codes[row, k]
                if code < 0:
                    continue
                if np.isnan(value):
                    missing[code, place] += 1
                if is_outside:
                    outside[code, place] += 1
                if is_finite:
                    has_log[code, place] += 1
                    if value < 0:
                        negative[code, place] += 1
                    if value != np.rint(value):
                        fractions[code, place] += 1
                    log_sum[code, place] += np.int64(np.rint(log * unit))
                    log_squares[code, place] += np.int64(np.rint(log * log * unit))
