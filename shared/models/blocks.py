"""Model inputs in blocks of a fixed number of rows, so that a row's score cannot depend on the batch it came in."""

import numpy as np
from numpy.typing import NDArray

LANES = 16
"""Rows per block: two AVX2 registers of float32. Measured against 8, 32 and 64: the best of the large batches' and the single row's cost."""

Blocks = NDArray[np.float32]
"""Inputs, shape (blocks, columns, LANES): row `r` is lane ``r % LANES`` of block ``r // LANES``; the last block is padded with zeros."""


def padded(rows: int) -> int:
    """Return the rows of as many whole blocks as `rows` need.

    >>> padded(17)
    32
    """
    return -(-rows // LANES) * LANES


def blocks_of(columns: NDArray[np.float32]) -> Blocks:
    """Return whole columns, shape (columns, padded rows), in blocks."""
    width, rows = columns.shape
    return np.ascontiguousarray(columns.reshape(width, rows // LANES, LANES).transpose(1, 0, 2))


def blocks_of_rows(matrix: NDArray[np.float32]) -> Blocks:
    """Return rows, shape (n, columns), in blocks."""
    columns = np.zeros((matrix.shape[1], padded(len(matrix))), np.float32)
    columns[:, : len(matrix)] = matrix.T
    return blocks_of(columns)


def rows_of(blocks: Blocks, columns: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return some columns of every row, shape (padded rows, len(columns))."""
    return np.ascontiguousarray(blocks[:, columns, :].transpose(0, 2, 1)).reshape(-1, len(columns))
