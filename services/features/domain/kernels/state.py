"""What a kernel works on: the memory of a view's state, what a batch does to it, and what no checkpoint holds yet."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Rows(NamedTuple):
    """A row an entity (`words`), by slot; the same memory twice.

    Attributes
    ----------
    words : int64 (entities, words)
    floats : float64 (entities, words)
    """

    words: NDArray[np.int64]
    floats: NDArray[np.float64]


class Memory(NamedTuple):
    """Blocks for what grows (`blocks`).

    Attributes
    ----------
    pool, pool_f : int64 and float64 (words,)
        The same memory twice.
    heads : int64 (HEADS,)
        The first free block of each class, and how much of the pool was ever used.
    """

    pool: NDArray[np.int64]
    pool_f: NDArray[np.float64]
    heads: NDArray[np.int64]


class Operations(NamedTuple):
    """What a batch does to a view, in the order of the journal.

    Attributes
    ----------
    slot : int64 (m,)
        Slot of the entity; -1 where the record names none.
    now : int64 (m,)
        Journal time, ms.
    at : int64 (m,)
        Time at which the record stands in windows, ms.
    offset : int64 (m,)
        Journal offset.
    update : bool (m,)
        Whether the record enters the state.
    row : int64 (m,)
        Where the record's answers go in `out`; -1 where it asks for none.
    value : float64 (m, values)
        What is aggregated; NaN for null.
    hash : int64 (m, distincts)
        Hash of what is counted distinctly; 0 for null.
    """

    slot: NDArray[np.int64]
    now: NDArray[np.int64]
    at: NDArray[np.int64]
    offset: NDArray[np.int64]
    update: NDArray[np.bool_]
    row: NDArray[np.int64]
    value: NDArray[np.float64]
    hash: NDArray[np.int64]


class Changes(NamedTuple):
    """Entities that have changed since they were last written to a checkpoint.

    Attributes
    ----------
    dirty : int64 (entities,)
        Journal offset of an entity's oldest change that no checkpoint holds; -1 when all is written.
    queue : int64 (room,)
        Slots of changed entities in the order of that offset.
    """

    dirty: NDArray[np.int64]
    queue: NDArray[np.int64]
