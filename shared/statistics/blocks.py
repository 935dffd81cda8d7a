"""Blocks of rows (days), and how often each is drawn when whole blocks are drawn again."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def block_indices(blocks: ArrayLike) -> tuple[NDArray[np.int64], int]:
    """Return the place of each row's block among all blocks, shape (n,), and how many blocks there are."""
    names, indices = np.unique(np.asarray(blocks), return_inverse=True)
    return np.asarray(indices, dtype=np.int64), len(names)


def drawn_blocks(count: int, repetitions: int, random: int | np.random.Generator) -> NDArray[np.float64]:
    """Return how often each block occurs in the sample itself and in each redraw of as many blocks with replacement, shape (1 + repetitions, count).

    The first row is of ones, so that ``drawn_blocks(...) @ sums`` is the sample's sum and then those of the redraws.

    Parameters
    ----------
    random
        Seed, or a generator that is drawn from.
    """
    redrawn = np.random.default_rng(random).multinomial(count, np.full(count, 1.0 / count), size=repetitions)
    return np.vstack([np.ones((1, count)), redrawn.astype(np.float64)])
