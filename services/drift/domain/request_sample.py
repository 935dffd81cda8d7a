"""The requests of which something is held: all of them, and from a number of them on a sample that is the same however they came."""

import base64
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.statistics.splitmix import splitmix64

Int64 = NDArray[np.int64]
_LEAST_ROOM, _MORE_ROOM = 1_024, 4


@dataclass(slots=True)
class Column:
    """Values one after the other, with room for a quarter more.

    Parameters
    ----------
    kind
        NumPy's type of a value.
    width
        Numbers of a value; 0 where it is one.
    """

    kind: type = np.float64
    width: int = 0
    count: int = 0
    _room: NDArray[Any] = field(init=False)

    def __post_init__(self) -> None:
        self._room = np.empty(self._shape(0), self.kind)

    def __len__(self) -> int:
        """Return how many there are."""
        return self.count

    @property
    def values(self) -> NDArray[Any]:
        """All of them, shape (n,) or (n, width); good until more are added."""
        return self._room[: self.count]

    def extend(self, more: NDArray[Any]) -> None:
        """Add values."""
        end = self.count + len(more)
        if end > len(self._room):
            room: NDArray[Any] = np.empty(self._shape(max(_LEAST_ROOM, end + end // _MORE_ROOM)), self.kind)
            room[: self.count] = self.values
            self._room = room
        self._room[self.count : end] = more
        self.count = end

    def keep(self, chosen: NDArray[np.bool_]) -> None:
        """Keep some of them, chosen by a mask of shape (n,), in the room that they need."""
        values = self.values[chosen]
        self.count, self._room = len(values), values

    def widen(self, width: int) -> None:
        """Give every value more numbers: 0."""
        added: NDArray[Any] = np.zeros((self.count, width - self.width), self.kind)
        before = self.values.reshape(self.count, self.width)
        self.width, self.count, self._room = width, 0, np.empty((0, width), self.kind)
        self.extend(np.column_stack([before, added]))

    def snapshot(self) -> str:
        """State as text."""
        return base64.b64encode(np.ascontiguousarray(self.values).tobytes()).decode()

    def load(self, state: str) -> None:
        """Take the state of a snapshot."""
        self.count = 0
        self.extend(np.frombuffer(base64.b64decode(state), self.kind).reshape(self._shape(-1)))

    def _shape(self, rows: int) -> tuple[int, ...]:
        return (rows, self.width) if self.width else (rows,)


@dataclass(slots=True)
class RowOfRequest:
    """Which row a request has: requests lie sorted in runs, which are merged when they are of like size, so that a look costs little."""

    runs: list[tuple[Int64, Int64]] = field(default_factory=list)

    def find(self, requests: Int64) -> Int64:
        """Return the row of each, shape (n,); -1 where it has none."""
        rows = np.full(len(requests), -1, np.int64)
        for known, own in self.runs:
            places = np.minimum(np.searchsorted(known, requests), len(known) - 1)
            there = known[places] == requests
            rows[there] = own[places[there]]
        return rows

    def add(self, requests: Int64, rows: Int64) -> None:
        """Take requests that have no row yet."""
        if not len(requests):
            return
        self.runs.append((requests, rows))
        self._sort_last()
        while len(self.runs) > 1 and len(self.runs[-2][0]) < 2 * len(self.runs[-1][0]):
            last, before = self.runs.pop(), self.runs.pop()
            self.runs.append((np.concatenate([before[0], last[0]]), np.concatenate([before[1], last[1]])))
            self._sort_last()

    def _sort_last(self) -> None:
        requests, rows = self.runs[-1]
        order = np.argsort(requests, kind="stable")
        self.runs[-1] = requests[order], rows[order]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the first of some requests belong.

    Attributes
    ----------
    end
        How many of the requests are told of: then the sample is full, and has to be halved.
    rows
        The row of each of these, shape (end,); -1 of a request that is not in the sample.
    begins
        At which of them each new row begins, in the order of the new rows.
    """

    end: int
    rows: Int64
    begins: Int64


@dataclass(slots=True)
class RequestSample:
    """Requests in the order in which they came, a row each.

    When there are `most`, those whose hash has a further leading bit leave, about half, and of those that come from then on as many are passed over.
    So what is held depends on which requests came and in what order, and not on batches; whether a request belongs to it, on its hash alone.

    Attributes
    ----------
    halvings
        How often half of the requests have left.
    """

    most: int
    requests: Column = field(init=False)
    halvings: int = 0
    _row_of: RowOfRequest = field(default_factory=RowOfRequest)

    def __post_init__(self) -> None:
        self.requests = Column(np.int64)

    def __len__(self) -> int:
        """Return how many are held."""
        return len(self.requests)

    def place(self, requests: Int64) -> Placed:
        """Find the rows of requests, and add those that are new, as far as there is room. Call `halve` before the next."""
        rows = self.find(requests)
        places = np.flatnonzero((rows < 0) & self.belong(requests))
        new, first, of = np.unique(requests[places], return_index=True, return_inverse=True)
        order = np.argsort(first, kind="stable")
        if len(new) > (room := self.most - len(self)):
            return self.place(requests[: int(places[first[order[room - 1]]]) + 1])
        numbers = np.empty(len(new), np.int64)
        numbers[order] = np.arange(len(self), len(self) + len(new))
        rows[places] = numbers[of]
        begins = places[first[order]]
        self.requests.extend(requests[begins])
        self._row_of.add(requests[begins], numbers[order])
        return Placed(len(requests), rows, begins)

    def halve(self) -> NDArray[np.bool_] | None:
        """Where it is full, let half of the requests leave: those rows stay that are returned as a mask; None where there is room."""
        if len(self) < self.most:
            return None
        requests = self.requests.values
        while (stay := self.belong(requests)).sum() >= self.most:
            self.halvings += 1
        self.requests.keep(stay)
        self._find_anew()
        return stay

    def belong(self, requests: Int64) -> NDArray[np.bool_]:
        """Return which requests belong to the sample, shape (n,), whether they have come or not."""
        if not self.halvings:
            return np.ones(len(requests), np.bool_)
        return np.asarray(splitmix64(requests.astype(np.uint64)) >> np.uint64(64 - self.halvings) == 0)

    def find(self, requests: Int64) -> Int64:
        """Return the row of each request, shape (n,); -1 where it has none."""
        return self._row_of.find(requests)

    def snapshot(self) -> dict[str, Any]:
        """State as text and numbers."""
        return {"requests": self.requests.snapshot(), "halvings": self.halvings}

    def load(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.requests.load(state["requests"])
        self.halvings = state["halvings"]
        self._find_anew()

    def _find_anew(self) -> None:
        self._row_of = RowOfRequest()
        self._row_of.add(self.requests.values.copy(), np.arange(len(self)))
