"""Which writer each message of a batch has: mostly one for all, which is kept and asked for without a look at every row."""

import numpy as np
from numpy.typing import NDArray


def repeated_writer(writer: int, n: int) -> NDArray[np.int64]:
    """Return an array of shape (n,) that holds one number and takes the memory of one; it cannot be written to."""
    one: NDArray[np.int64] = np.ndarray((n,), np.int64, np.array([writer], np.int64), 0, (0,))
    one.flags.writeable = False
    return one


def only_writer(writers: NDArray[np.int64]) -> int | None:
    """Return the writer that all have; None where they differ, or there are none.

    Examples
    --------
    >>> only_writer(repeated_writer(7, 3)[1:]), only_writer(np.array([7, 7, 8]))
    (7, None)
    """
    if not len(writers):
        return None
    first = int(writers[0])
    # Rows that lie no bytes apart are one and the same.
    return first if writers.strides == (0,) or bool((writers == first).all()) else None
