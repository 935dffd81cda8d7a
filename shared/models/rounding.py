"""Thresholds in 32 bits that every 32-bit input passes or fails as it did the exact ones."""

import numpy as np
from numpy.typing import NDArray


def at_most(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the greatest float32 that is not above each value.

    >>> x = np.nextafter(np.float32(1), np.float32(2))
    >>> bool(at_most(np.array([float(x) - 1e-9]))[0] < x), bool(at_most(np.array([float(x)]))[0] == x)
    (True, True)
    """
    with np.errstate(over="ignore"):
        near = values.astype(np.float32)
    lower: NDArray[np.float32] = np.where(near > values, np.nextafter(near, np.float32(-np.inf), dtype=np.float32), near)
    return lower
