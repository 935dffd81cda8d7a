"""Rows of a batch by their numbers, and batches as one: copied where it must be."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def chosen_rows(batch: pa.RecordBatch, rows: NDArray[np.int64]) -> pa.RecordBatch:
    """Return rows of a batch in the order of their numbers, shape (n,); neighbours are a view of the batch, and nothing is copied.

    Of a batch of sixty columns a copy takes longer than most of what is done with its rows.

    >>> batch = pa.RecordBatch.from_pydict({"value": [1, 2, 3]})
    >>> chosen_rows(batch, np.array([1, 2]))["value"].to_pylist(), chosen_rows(batch, np.array([2, 0]))["value"].to_pylist()
    ([2, 3], [3, 1])
    """
    n = len(rows)
    if not n:
        return batch.slice(0, 0)
    first = int(rows[0])
    if int(rows[-1]) - first != n - 1 or (rows[1:] - rows[:-1] != 1).any():
        return batch.take(pa.array(rows))
    return batch if n == batch.num_rows else batch.slice(first, n)


def together(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Return the rows of batches of one schema, one after another; a single one as it is."""
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
