"""The layout of a view's state: which numbers an entity's row holds and from which word on, as the kernels read it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

GROUP = np.dtype(
    [
        ("kind", np.int64),  # a WindowKind
        ("step_ms", np.int64),  # length of a step; of a session group the longest gap; 0 where cells are records
        ("width", np.int64),  # words of a cell
        ("row", np.int64),  # word of the row from which on the group's own words stand
        ("first_window", np.int64),  # its windows are those from this one on ...
        ("end_window", np.int64),  # ... to before this one
        ("digest", np.int64),  # word of a cell from which on its sketches stand; -1: it has none
    ]
)
"""Windows of one step, which share their cells."""
WINDOW = np.dtype(
    [
        ("kind", np.int64),  # a WindowKind
        ("length_ms", np.int64),  # of a session the longest gap; 0 for the whole history
        ("step_ms", np.int64),  # 0: exact per record
        ("group", np.int64),  # -1: it has no cells
        ("row", np.int64),  # word of the row from which on its own words stand
        ("steps", np.int64),  # length in steps
    ]
)
AGGREGATE = np.dtype(
    [
        ("kind", np.int64),  # an AggregateKind
        ("compares", np.bool_),  # whether it is answered before the asking event enters
        ("window", np.int64),  # -1: it is over everything by nature
        ("value", np.int64),  # column of the operations' values; -1: it looks at records or times only
        ("decay", np.int64),  # the decayed sum it is read from; -1: none
        ("distinct", np.int64),  # the distinct counter it is read from; -1: none
        ("lag", np.int64),  # how many values back it looks
        ("argument", np.float64),  # the quantile, 0 to 1
    ],
    align=True,
)
DECAY = np.dtype(
    [
        ("row", np.int64),  # word of the row from which on its own words stand
        ("value", np.int64),  # column of the operations' values; -1: records are counted
        ("in_events", np.bool_),  # whether the half-life is a number of events
        ("half_life", np.float64),  # ms, or events
    ],
    align=True,
)
DISTINCT = np.dtype(
    [
        ("row", np.int64),  # word of the row from which on its own words stand
        ("bound_ms", np.int64),  # what was seen longer ago than this is in no window; -1: no bound
    ]
)


class AccumulatorLayout(NamedTuple):
    """What an accumulator holds besides count, sum and largest magnitude (`words`).

    Attributes
    ----------
    words
        Its words.
    squares, low, high
        At which of them its sum of squares (two words), minimum and maximum stand; -1: it has none.
    """

    words: int
    squares: int
    low: int
    high: int


class StateLayout(NamedTuple):
    """What the kernels have to know of a view; `layout_planning` plans it.

    Attributes
    ----------
    width
        Words of a row.
    values
        Number of columns of values.
    accumulator
        One for each column of values, in every window and cell.
    first_row
        Word of the row from which on first values stand (time and value); -1: none are kept.
    lag_row, lags
        Word of the row from which on the last values stand (time and value, newest first), and how many are kept of each column.
    digest_row
        Word of the row from which on the places of the sketches of the whole history stand; -1: there are none.
    reach_ms
        How long after its last record an entity's state can still be seen in an answer; -1: for ever.
    ttl_ms
        After how long without a record an entity is forgotten; 0: never.
    lateness_ms
        How far records may come out of order.
    groups : GROUP (groups,)
        In the order of their windows.
    windows : WINDOW (windows,)
        Those over the whole history last.
    aggregates : AGGREGATE (aggregates,)
        In the order of the answers.
    decays : DECAY (decayed sums,)
    distincts : DISTINCT (columns of hashes,)
    """

    width: int
    values: int
    accumulator: AccumulatorLayout
    first_row: int
    lag_row: int
    lags: int
    digest_row: int
    reach_ms: int
    ttl_ms: int
    lateness_ms: int
    groups: NDArray[np.void]
    windows: NDArray[np.void]
    aggregates: NDArray[np.void]
    decays: NDArray[np.void]
    distincts: NDArray[np.void]
