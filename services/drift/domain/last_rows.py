"""What came last for each request, as rows of numbers, in as many bytes as they are."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.services.drift.domain.request_sample import Column, RequestSample

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


@dataclass(slots=True)
class LastRows:
    """The last row of every request; of more than `most` requests, of a sample of them.

    Parameters
    ----------
    width
        Numbers of a row.
    """

    most: int
    width: int
    sample: RequestSample = field(init=False)
    rows: Column = field(init=False)

    def __post_init__(self) -> None:
        self.sample, self.rows = RequestSample(self.most), Column(np.float64, self.width)

    def __len__(self) -> int:
        """Return how many rows are held."""
        return len(self.sample)

    def absorb(self, requests: Int64, rows: Float64) -> None:
        """Take rows in the order in which they came, shape (n, width); `requests` as `request_ids` has them. A further row replaces the last."""
        begin = 0
        while begin < len(requests):
            placed = self.sample.place(requests[begin:])
            came, inside = rows[begin : begin + placed.end], np.flatnonzero(placed.rows >= 0)
            self.rows.extend(came[placed.begins])
            # Of several of one request the last is written last.
            self.rows.values[placed.rows[inside]] = came[inside]
            begin += placed.end
            stay = self.sample.halve()
            if stay is not None:
                self.rows.keep(stay)

    def holds(self, request: int) -> bool:
        """Return whether a request belongs to the sample, or would if it came."""
        return bool(self.sample.belong(np.array([request]))[0])

    def replace(self, request: int, row: Float64) -> Float64 | None:
        """Take a row, shape (width,), of a request that belongs to the sample; returns the one that it replaces, None where there was none."""
        found = self.sample.find(np.array([request]))
        before = self.rows.values[found[0]].copy() if found[0] >= 0 else None
        self.absorb(np.array([request]), row[None])
        return before

    def ordered(self) -> Float64:
        """Return the rows in the order of the requests' numbers, shape (n, width): what is summed in another order has other bits."""
        return np.asarray(self.rows.values[np.argsort(self.sample.requests.values)])

    def snapshot(self) -> dict[str, Any]:
        """State as text and numbers."""
        return {"sample": self.sample.snapshot(), "rows": self.rows.snapshot()}

    @staticmethod
    def load(state: dict[str, Any], most: int, width: int) -> "LastRows":
        """From a snapshot."""
        last = LastRows(most, width)
        last.sample.load(state["sample"])
        last.rows.load(state["rows"])
        return last
