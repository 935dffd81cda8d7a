"""Kinds of windows and of aggregates, as the kernels know them."""

from enum import IntEnum, auto

from tidemill.shared.application.plan import Kind


class WindowKind(IntEnum):
    """What a window, and a group of windows that share their cells, holds.

    Attributes
    ----------
    EXACT
        Sliding; a cell is one record.
    STEPPED
        Sliding in steps; a cell is what one step brought.
    SESSION
        A cell is one session.
    EVERYTHING
        The whole history, without cells.
    """

    EXACT = auto()
    STEPPED = auto()
    SESSION = auto()
    EVERYTHING = auto()


class AggregateKind(IntEnum):
    """What an aggregate answers; a member has the name of the kind in the application file. `ratio` is made of answers, outside of the kernels."""

    COUNT = auto()
    SUM = auto()
    MEAN = auto()
    VARIANCE = auto()
    STD = auto()
    MIN = auto()
    MAX = auto()
    RATE = auto()
    DISTINCT = auto()
    QUANTILE = auto()
    DIFFERENCE = auto()
    ZSCORE = auto()
    FIRST = auto()
    LAST = auto()
    LAG = auto()
    TIME_SINCE_FIRST = auto()
    TIME_SINCE_LAST = auto()
    DECAYED_SUM = auto()
    DECAYED_COUNT = auto()
    DECAYED_MEAN = auto()

    @classmethod
    def of(cls, kind: Kind) -> "AggregateKind":
        """Return the member of a kind's name."""
        return cls[kind.upper()]


COMPARING = frozenset(
    {
        AggregateKind.DIFFERENCE,
        AggregateKind.ZSCORE,
        AggregateKind.FIRST,
        AggregateKind.LAST,
        AggregateKind.LAG,
        AggregateKind.TIME_SINCE_FIRST,
        AggregateKind.TIME_SINCE_LAST,
    }
)
"""They compare the asking event with the past, so they are answered before it enters."""
SQUARED = frozenset({AggregateKind.VARIANCE, AggregateKind.STD, AggregateKind.ZSCORE})
"""They need sums of squares."""
DECAYED = frozenset({AggregateKind.DECAYED_SUM, AggregateKind.DECAYED_COUNT, AggregateKind.DECAYED_MEAN})
"""They are read from a decayed sum."""
