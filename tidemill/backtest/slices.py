"""How a backtest cuts time: the slices in which events are given to the stages."""

from collections.abc import Callable

DAY_MS = 86_400_000
_PARTS = 100


def usual_slice_ms(span_ms: int) -> int:
    """Return the slice of data that spans so many milliseconds: a day, as a replay has it, or a hundredth of the span where that is less.

    >>> usual_slice_ms(365 * DAY_MS) == DAY_MS, usual_slice_ms(2_000_000), usual_slice_ms(3)
    (True, 20000, 1)
    """
    return max(1, min(DAY_MS, span_ms // _PARTS))


def cut_at(due_ms: Callable[[], int | None]) -> Callable[[int, int], int]:
    """Return what ends a slice where a training has its result, so that the model serves from that instant on.

    >>> cut_at(lambda: 150)(100, 200), cut_at(lambda: 250)(100, 200), cut_at(lambda: 90)(100, 200), cut_at(lambda: None)(100, 200)
    (150, 200, 200, 200)
    """

    def cut(begin: int, end: int) -> int:
        due = due_ms()
        return due if due is not None and begin < due < end else end

    return cut
