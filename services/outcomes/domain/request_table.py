"""The requests of one model that are known, in journal order."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tidemill.services.outcomes.domain.equal_lengths import require_equal_lengths
from tidemill.services.outcomes.domain.identity_index import IdentityIndex
from tidemill.services.outcomes.domain.packed_rows import PackedRows
from tidemill.services.outcomes.domain.pair_table import PairTable
from tidemill.services.outcomes.domain.request import Pair, Request, RequestColumns

Int64 = NDArray[np.int64]
STATUSES = ("pending", "invalid", "labelled", "corrected", "timeout")
PENDING, INVALID, LABELLED, CORRECTED, TIMEOUT = range(5)
"""Indices of `STATUSES`."""
OPEN = (PENDING, INVALID)
_COLUMNS = (
    ("offset", "i8"),
    ("time_ms", "i8"),
    ("event_time_ms", "i8"),
    ("score", "f8"),
    ("predicted", "i4"),
    ("status", "u1"),
    ("revision", "u4"),
)


class KnownRequest(NamedTuple):
    """A request and what has become of it."""

    request: Request
    status: int
    revision: int


class RequestTable:
    """Requests by number and by id: 39 bytes each and 8 for each of their numbers, the id's text, and 10 to 14 bytes of the index; pairs beside.

    Numbers rise by one with each request; the oldest is forgotten first.

    Parameters
    ----------
    numbers
        How many numbers each has: length of `Request.numbers`.
    classes
        How many probabilities a pair has.
    """

    def __init__(self, numbers: int = 0, classes: int = 0) -> None:
        self._numbers, self._classes = numbers, classes
        self._pairs = PairTable(classes)
        self._rows = PackedRows([*_COLUMNS, *((f"number{i}", "f8") for i in range(numbers))])
        self._index = IdentityIndex(lambda lower, identity: self._rows.is_named(self._rows.number(lower), identity))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def end(self) -> int:
        """Number of the request to come next."""
        return self._rows.end

    def add(self, request: Request, status: int, revision: int) -> bool:
        """Remember the request to come next; False, and nothing is remembered, if its id is known."""
        if not self._index.add(request.request_id, self._rows.end):
            return False
        name, offset, time_ms, event_time_ms, score, predicted, *served, numbers, pair = request
        numbers = _padded(numbers, self._numbers)
        if pair is not None:
            pair = pair._replace(numbers=_padded(pair.numbers, self._classes))
            self._pairs.add(self._rows.end, offset, time_ms, pair)
        self._rows.append(name, tuple(served), offset, time_ms, event_time_ms, score, predicted, status, revision, *numbers)
        return True

    def extend(self, requests: RequestColumns, pairs: Sequence[Pair | None]) -> None:
        """Remember pending requests, as `add` does one by one: with ids that are new, each once, and no more numbers than there is room for."""
        first, count = self._rows.end, len(requests)
        self._index.extend(requests.request_id, first)
        for row, (pair, offset, time_ms) in enumerate(zip(pairs, requests.offset.tolist(), requests.time_ms.tolist(), strict=True), first):
            if pair is not None:
                self._pairs.add(row, offset, time_ms, pair._replace(numbers=_padded(pair.numbers, self._classes)))
        own: list[NDArray[Any]] = [requests.offset, requests.time_ms, requests.event_time_ms, requests.score, requests.predicted]
        own += [np.full(count, PENDING, np.uint8), np.zeros(count, np.uint32)]
        numbers = np.array([_padded(one, self._numbers) for one in requests.numbers], np.float64).reshape(count, self._numbers)
        self._rows.extend(requests.request_id, requests.served, [*own, *numbers.T])

    @property
    def first(self) -> int:
        """Number of the oldest request."""
        return self._rows.first

    def holds(self, numbers: int, classes: int) -> bool:
        """Whether a request with so many numbers, and so many of its pair, has room."""
        return numbers <= self._numbers and classes <= self._classes

    def widened(self, numbers: int, classes: int) -> "RequestTable":
        """Return the same requests, numbered from 0 on, with room for more numbers: NaN, where they had none."""
        wide = RequestTable(max(numbers, self._numbers), max(classes, self._classes))
        for row in range(self._rows.first, self._rows.end):
            wide.add(*self.get(row))
        return wide

    def find(self, identity: str) -> int | None:
        """Return the number of the request with an id."""
        lower = self._index.find(identity)
        return None if lower < 0 else self._rows.number(lower)

    def find_all(self, identities: Sequence[str]) -> Int64:
        """Return the numbers of the requests with ids, shape (n,); -1 where there is none."""
        lower = self._index.candidates(identities)
        there = np.flatnonzero(lower >= 0)
        rows = np.full(len(identities), -1, np.int64)
        rows[there] = self._rows.first + ((lower[there] - self._rows.first) & 0xFFFFFFFF)
        known, wanted = self._rows.identities(rows[there]), [identities[i] for i in there.tolist()]
        if known == wanted:
            return rows
        for i, name, identity in zip(there.tolist(), known, wanted, strict=True):
            if name != identity:
                found = self.find(identity)
                rows[i] = -1 if found is None else found
        return rows

    def get_all(self, rows: Int64) -> list[Request]:
        """Return requests by their numbers."""
        if not len(rows):
            return []
        names, served, offset, time_ms, event_time_ms, score, predicted, _, _, *numbers = columns = self._rows.take(rows)
        require_equal_lengths(*columns)
        pairs = [self._pairs.find(row) for row in rows.tolist()] if self._pairs else [None] * len(rows)
        of_kind = zip(*numbers, strict=True) if numbers else [()] * len(rows)
        return list(map(Request, names, offset, time_ms, event_time_ms, score, predicted, *zip(*served, strict=True), of_kind, pairs))

    def set_all(self, rows: Int64, status: int) -> None:
        """Note what has become of requests that were open, at their revision."""
        self._rows.set_all(rows, "status", status)

    def statuses(self, rows: Int64) -> Int64:
        """Return what has become of requests."""
        return self._rows.values(rows, "status").astype(np.int64)

    def times_ms(self, rows: Int64) -> Int64:
        """Return the journal times of requests."""
        return self._rows.values(rows, "time_ms").astype(np.int64)

    def offsets(self, rows: Int64) -> Int64:
        """Return the journal offsets of requests."""
        return self._rows.values(rows, "offset").astype(np.int64)

    def first_from(self, time_ms: int, begin: int) -> int:
        """Return the number of the first request, of those from `begin` on, that is not older than an instant of journal time."""
        return self._rows.first_from(time_ms, begin)

    def forget_until(self, row: int) -> None:
        """Let go of all requests before one."""
        gone = np.arange(self._rows.first, row)
        if not len(gone):
            return
        self._index.remove_all(self._rows.identities(gone), int(gone[0]))
        self._rows.forget_until(row)
        if self._pairs:
            for one in gone.tolist():
                self._pairs.forget(one)

    def get(self, row: int) -> KnownRequest:
        """Return the request with a number."""
        offset, time_ms, event_time_ms, score, predicted, status, revision, *numbers = self._rows.get(row)
        served = self._rows.repeated(row)
        pair = self._pairs.find(row) if self._pairs else None
        request = Request._make((self._rows.identity(row), offset, time_ms, event_time_ms, score, predicted, *served, tuple(numbers), pair))
        return KnownRequest(request, status, revision)

    def set(self, row: int, status: int, revision: int) -> None:
        """Note what has become of a request."""
        self._rows.set(row, "status", status)
        self._rows.set(row, "revision", revision)

    def status(self, row: int) -> int:
        """Return what has become of a request."""
        return self._rows.value(row, "status")

    def time_ms(self, row: int) -> int:
        """Return a request's journal time."""
        return self._rows.coordinates(row)[1]

    def oldest(self) -> tuple[int, int]:
        """Return the journal offset and the journal time of the oldest request."""
        return self._rows.coordinates(self._rows.first)

    def forget_oldest(self) -> None:
        """Let go of the oldest request."""
        row = self._rows.first
        self._index.remove(self._rows.identity(row), row)
        self._rows.forget_first()
        if self._pairs:
            self._pairs.forget(row)

    def between(self, low: int, high: int) -> list[tuple[Any, ...]]:
        """Return the requests with journal offsets in [low, high), each as the fields of `Request`, its status and its revision.

        Numbers are left out of rows that have none; a pair stands behind everything else.
        """
        rows: list[tuple[Any, ...]] = []
        for identities, served, *columns in self._rows.between(low, high):
            own, (status, revision), numbers = columns[:5], columns[5:7], columns[7:]
            last = [list(zip(*numbers, strict=True))] if numbers else []
            rows += zip(identities, *own, *zip(*served, strict=True), *last, [STATUSES[one] for one in status], revision, strict=True)
        return [self._with_pair(row) for row in rows] if self._pairs else rows

    def _with_pair(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        number = self.find(row[0])
        pair = None if number is None else self._pairs.find(number)
        return row if pair is None else (*row, pair)


def _padded(numbers: tuple[float, ...], count: int) -> tuple[float, ...]:
    return numbers if len(numbers) == count else (*numbers, *[math.nan] * (count - len(numbers)))
