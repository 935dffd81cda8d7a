"""Labels of a window, one for each request, in as many bytes as they are: what is held of a day at thousands a second has to fit a process."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
_LEAST_ROOM, _MORE_ROOM = 1_024, 4
_COLUMNS: Mapping[str, tuple[type, float]] = {
    "label": (np.float64, 0.0),
    "score": (np.float64, 0.0),
    "predicted": (np.int64, 0),
    "weight": (np.float64, 1.0),
    "lower": (np.float64, np.nan),
    "upper": (np.float64, np.nan),
}
"""By name: how values are kept, and what a row has without one. A column in which no row has one takes nothing."""


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


@dataclass(slots=True)
class LabelledRows:
    """The last label of every request of a window, with what was answered when its first label came.

    Attributes
    ----------
    requests
        As `request_ids` has them, in the order in which their first labels came.
    columns
        Those that any row has a value in, by name.

    Parameters
    ----------
    width
        Scores of a row: number of classes, or 0 where a score is one number.
    """

    width: int = 0
    requests: Column = field(init=False)
    columns: dict[str, Column] = field(default_factory=dict)
    _row_of: RowOfRequest = field(default_factory=RowOfRequest)

    def __post_init__(self) -> None:
        self.requests = Column(np.int64)

    def __len__(self) -> int:
        """Return of how many requests labels came."""
        return len(self.requests)

    def column(self, name: str) -> NDArray[Any]:
        """Return a column, shape (n,), or (n, K) of the scores of K classes."""
        if name in self.columns:
            return self.columns[name].values
        kind, nothing = _COLUMNS[name]
        return np.full((len(self), self.width) if name == "score" and self.width else len(self), nothing, kind)

    def absorb(self, requests: Int64, label: Float64, score: Float64, predicted: Int64, weight: Float64, lower: Float64, upper: Float64) -> None:
        """Take labels, in the order in which they came; a further one of a request replaces the one before it.

        Parameters
        ----------
        weight
            1 says nothing: what came before is kept.
        lower, upper
            NaN without a prediction interval. The first one of a request counts.
        """
        if not len(requests):
            # Learned classes are none at first: what is empty says nothing of how many numbers a score has.
            return
        if not len(self):
            self.width = score.shape[1] if score.ndim > 1 else 0
        rows = self._row_of.find(requests)
        places = np.flatnonzero(rows < 0)
        new, first, of = np.unique(requests[places], return_index=True, return_inverse=True)
        order = np.argsort(first, kind="stable")
        numbers = np.empty(len(new), np.int64)
        numbers[order] = np.arange(len(self), len(self) + len(new))
        rows[places] = numbers[of]
        begins = places[first[order]]
        values = {"label": label, "score": score, "predicted": predicted}
        self._room_for({**values, "weight": weight, "lower": lower, "upper": upper})
        self.requests.extend(requests[begins])
        self._row_of.add(requests[begins], numbers[order])
        for name, column in self.columns.items():
            column.extend(values[name][begins] if name in values else np.full(len(begins), _COLUMNS[name][1]))
        # Of several of one request the last is written last.
        self.columns["label"].values[rows] = label
        if "weight" in self.columns:
            says = weight != 1.0
            self.columns["weight"].values[rows[says]] = weight[says]
        if "lower" in self.columns:
            bounded = np.flatnonzero(~np.isnan(lower))[::-1]
            bounded = bounded[np.isnan(self.columns["lower"].values[rows[bounded]])]
            for name, bound in (("lower", lower), ("upper", upper)):
                self.columns[name].values[rows[bounded]] = bound[bounded]

    def widen(self, width: int) -> None:
        """Give every row more scores: 0, as those of classes that nobody had answered."""
        if "score" in self.columns and self.width:
            self.columns["score"].widen(width)
        self.width = width

    def snapshot(self) -> dict[str, Any]:
        """State as text and numbers."""
        columns = {name: column.snapshot() for name, column in self.columns.items()}
        return {"width": self.width, "requests": self.requests.snapshot(), "columns": columns}

    @staticmethod
    def load(state: Mapping[str, Any]) -> "LabelledRows":
        """From a snapshot."""
        rows = LabelledRows(state["width"])
        rows.requests.load(state["requests"])
        for name, saved in state["columns"].items():
            rows.columns[name] = rows._new(name)
            rows.columns[name].load(saved)
        rows._row_of.add(rows.requests.values.copy(), np.arange(len(rows)))
        return rows

    def _room_for(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Begin columns in which a row has a value for the first time."""
        says = {"weight": (values["weight"] != 1.0).any(), "lower": not np.isnan(values["lower"]).all()}
        says["upper"] = says["lower"]
        for name in values:
            if name not in self.columns and says.get(name, True):
                column = self._new(name)
                column.extend(self.column(name))
                self.columns[name] = column

    def _new(self, name: str) -> Column:
        return Column(_COLUMNS[name][0], self.width if name == "score" else 0)
