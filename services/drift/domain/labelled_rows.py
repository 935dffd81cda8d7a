"""Labels of a window, one for each request, in as many bytes as they are: what is held of a day at thousands a second has to fit a process."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.services.drift.domain.request_sample import Column, RequestSample

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
_MOST_ROWS = 500_000
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
class LabelledRows:
    """The last label of every request of a window, with what was answered when its first label came.

    From 500,000 requests on those of a sample are held, each for as many others: see `RequestSample`.

    Attributes
    ----------
    columns
        Those that any row has a value in, by name.
    count
        Requests of which labels came. Once there is a sample: first labels, and as many requests as its further labels of others stand for.

    Parameters
    ----------
    width
        Scores of a row: number of classes, or 0 where a score is one number.
    most
        Rows from which on half of them leave.
    """

    width: int = 0
    most: int = _MOST_ROWS
    sample: RequestSample = field(init=False)
    columns: dict[str, Column] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        self.sample = RequestSample(self.most)

    def __len__(self) -> int:
        """Return how many rows are held."""
        return len(self.sample)

    def column(self, name: str) -> NDArray[Any]:
        """Return a column, shape (n,), or (n, K) of the scores of K classes."""
        if name in self.columns:
            return self.columns[name].values
        return self._nothing(name, len(self))

    def absorb(
        self,
        requests: Int64,
        label: Float64,
        score: Float64,
        predicted: Int64,
        weight: Float64,
        lower: Float64,
        upper: Float64,
        revision: Int64,
    ) -> None:
        """Take labels, in the order in which they came; a further one of a request replaces the one before it.

        Parameters
        ----------
        requests
            As `request_ids` has them.
        weight
            1 says nothing: what came before is kept.
        lower, upper
            NaN without a prediction interval. The first one of a request counts.
        revision
            0 of a request's first label.
        """
        if not len(requests):
            # Learned classes are none at first: what is empty says nothing of how many numbers a score has.
            return
        if not len(self):
            self.width = score.shape[1] if score.ndim > 1 else 0
        values = {"label": label, "score": score, "predicted": predicted, "weight": weight, "lower": lower, "upper": upper}
        begin = 0
        while begin < len(requests):
            begin += self._take(requests[begin:], {name: rows[begin:] for name, rows in values.items()}, revision[begin:])
            stay = self.sample.halve()
            if stay is not None:
                for column in self.columns.values():
                    column.keep(stay)

    def widen(self, width: int) -> None:
        """Give every row more scores: 0, as those of classes that nobody had answered."""
        if "score" in self.columns and self.width:
            self.columns["score"].widen(width)
        self.width = width

    def snapshot(self) -> dict[str, Any]:
        """State as text and numbers."""
        columns = {name: column.snapshot() for name, column in self.columns.items()}
        return {"width": self.width, "count": self.count, "sample": self.sample.snapshot(), "columns": columns}

    @staticmethod
    def load(state: Mapping[str, Any]) -> "LabelledRows":
        """From a snapshot."""
        rows = LabelledRows(state["width"], count=state["count"])
        rows.sample.load(state["sample"])
        for name, saved in state["columns"].items():
            rows.columns[name] = rows._new(name)
            rows.columns[name].load(saved)
        return rows

    def _take(self, requests: Int64, values: Mapping[str, NDArray[Any]], revision: Int64) -> int:
        """Take the first labels as far as there is room; returns how many."""
        halvings, held = self.sample.halvings, len(self)
        placed = self.sample.place(requests)
        revision, begins = revision[: placed.end], placed.begins
        values = {name: rows[: placed.end] for name, rows in values.items()}
        self._room_for(values, held)
        further = int((revision[begins] > 0).sum()) << halvings
        self.count += further + int((revision == 0).sum()) if halvings else len(begins)
        begun = {name: values[name][begins] for name in ("label", "score", "predicted")}
        for name, column in self.columns.items():
            column.extend(begun[name] if name in begun else np.full(len(begins), _COLUMNS[name][1]))
        inside = np.flatnonzero(placed.rows >= 0)
        rows, values = placed.rows[inside], {name: some[inside] for name, some in values.items()}
        # Of several of one request the last is written last.
        self.columns["label"].values[rows] = values["label"]
        if "weight" in self.columns:
            says = values["weight"] != 1.0
            self.columns["weight"].values[rows[says]] = values["weight"][says]
        if "lower" in self.columns:
            bounded = np.flatnonzero(~np.isnan(values["lower"]))[::-1]
            bounded = bounded[np.isnan(self.columns["lower"].values[rows[bounded]])]
            for name in ("lower", "upper"):
                self.columns[name].values[rows[bounded]] = values[name][bounded]
        return placed.end

    def _room_for(self, values: Mapping[str, NDArray[Any]], held: int) -> None:
        """Begin columns in which a row has a value for the first time, with what the rows that were held until now have."""
        says = {"weight": (values["weight"] != 1.0).any(), "lower": not np.isnan(values["lower"]).all()}
        says["upper"] = says["lower"]
        for name in values:
            if name not in self.columns and says.get(name, True):
                column = self._new(name)
                column.extend(self._nothing(name, held))
                self.columns[name] = column

    def _new(self, name: str) -> Column:
        return Column(_COLUMNS[name][0], self.width if name == "score" else 0)

    def _nothing(self, name: str, rows: int) -> NDArray[Any]:
        kind, nothing = _COLUMNS[name]
        return np.full((rows, self.width) if name == "score" and self.width else rows, nothing, kind)
