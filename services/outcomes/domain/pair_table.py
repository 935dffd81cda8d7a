"""What the other one of champion and challenger said of the requests that had both."""

from bisect import bisect_right

from tidemill.services.outcomes.domain.packed_rows import PackedRows
from tidemill.services.outcomes.domain.request import Pair

_COLUMNS = (("offset", "i8"), ("time_ms", "i8"), ("score", "f8"), ("predicted", "i4"), ("draw", "f8"))


class PairTable:
    """Pairs by the number of their request, in the order of the requests; the oldest is forgotten first.

    Requests with a pair come in stretches, one for each time that something was tried, so a pair is found by its distance from the begin of its
    stretch: about 30 bytes each, 8 for each class, and the text of its slices. A request without a pair costs nothing.

    Parameters
    ----------
    classes
        How many probabilities each has.
    """

    def __init__(self, classes: int = 0) -> None:
        self._rows = PackedRows([*_COLUMNS, *((f"number{i}", "f8") for i in range(classes))])
        self._stretches: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, request: int, offset: int, time_ms: int, pair: Pair) -> None:
        """Remember the pair of the request with the next number, or a later one."""
        end = self._rows.end
        if not self._stretches or self._stretches[-1][0] + end - self._stretches[-1][1] != request:
            self._stretches.append((request, end))
        common = pair.version, pair.sequence, pair.share, pair.stage
        self._rows.append(pair.slices, common, offset, time_ms, pair.score, pair.predicted, pair.draw, *pair.numbers)

    def find(self, request: int) -> Pair | None:
        """Return the pair of a request; None where it has none."""
        row = self._row(request)
        if row is None:
            return None
        _, _, score, predicted, draw, *numbers = self._rows.get(row)
        version, sequence, share, stage = self._rows.repeated(row)
        return Pair(version, sequence, score, predicted, tuple(numbers), self._rows.identity(row), share, stage, draw)

    def forget(self, request: int) -> None:
        """Let go of the oldest pair if it is this request's."""
        if self._row(request) == self._rows.first and len(self._rows):
            self._rows.forget_first()
            while len(self._stretches) > 1 and self._stretches[1][1] <= self._rows.first:
                del self._stretches[0]

    def _row(self, request: int) -> int | None:
        place = bisect_right(self._stretches, request, key=lambda stretch: stretch[0]) - 1
        if place < 0:
            return None
        begin, row = self._stretches[place]
        end = self._stretches[place + 1][1] if place + 1 < len(self._stretches) else self._rows.end
        pair = row + request - begin
        return pair if self._rows.first <= pair < end else None
