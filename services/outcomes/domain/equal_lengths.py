"""Columns that are put together row by row have to be of one length; `map` over them stops at the end of the shortest."""

from collections.abc import Sized


def require_equal_lengths(*columns: Sized) -> None:
    """Refuse columns that differ in length, once for all their rows.

    Raises
    ------
    ValueError
        They differ (crash: a fault of the code).

    Examples
    --------
    >>> require_equal_lengths([1, 2], "ab")
    >>> require_equal_lengths([1, 2], "abc")
    Traceback (most recent call last):
        ...
    ValueError: expected columns of one length, got 2, 3
    """
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1:
        raise ValueError(f"expected columns of one length, got {', '.join(map(str, lengths))}")
