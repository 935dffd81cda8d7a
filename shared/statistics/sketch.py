"""Mergeable summary of a numeric column: counts on a grid of relative width that coarsens by itself."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_START_BITS = 12
MAX_KEYS = 512
TINY = 2.0**-40
"""The smallest magnitude that is not in the cell of zero."""


class FloatCells(NamedTuple):
    """Where cells begin in a float's bits: what is taken off those of the smallest magnitude, and the bits below a cell."""

    origin: int
    bits: int


FLOAT_CELLS = FloatCells(int(np.array([TINY]).view(np.int64)[0] >> (52 - _START_BITS)) - (1 << _START_BITS), 52 - _START_BITS)


def cells(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Grid cell of each value at the finest resolution: monotone in the value, 0 for zero."""
    magnitude = np.abs(values)
    raw = np.ascontiguousarray(magnitude).view(np.int64) >> (52 - _START_BITS)
    origin = np.array([TINY]).view(np.int64)[0] >> (52 - _START_BITS)
    cells = np.where(magnitude < TINY, 0, raw - origin + (1 << _START_BITS))
    return np.asarray(np.where(values < 0, -cells, cells), dtype=np.int64)


def coarser(keys: NDArray[np.int64], shift: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return cells of a grid that is halved so many times."""
    return np.asarray(np.sign(keys) * (np.abs(keys) >> shift), dtype=np.int64)


def combined(keys: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Add up the counts of equal neighbours."""
    if not keys.size:
        return keys, counts
    begins = np.concatenate([[0], np.flatnonzero(keys[1:] != keys[:-1]) + 1])
    return keys[begins], np.asarray(np.add.reduceat(counts, begins), dtype=np.int64)


@dataclass(frozen=True)
class Sketch:
    """Counts of a numeric column on a logarithmic grid, its missing values and its range.

    Cells are runs of the leading bits of the float itself, so no logarithm's rounding decides where a value goes. When more than 512 cells
    are in use the grid is halved everywhere. The final resolution is the finest at which the union of all values fits, whatever the order
    or grouping of merges: merging is associative and commutative, bit for bit. Quantiles are right to one cell.

    References
    ----------
    Epicoco et al.: UDDSketch: accurate tracking of quantiles in data streams. IEEE Access 2020 (uniform collapse).
    """

    keys: NDArray[np.int64]
    counts: NDArray[np.int64]
    shift: int = 0
    missing: int = 0
    low: float = float("inf")
    high: float = float("-inf")

    @staticmethod
    def empty() -> "Sketch":
        """Of no rows."""
        return _NOTHING

    @staticmethod
    def of(values: NDArray[np.float64]) -> "Sketch":
        """Of a column; NaN is missing."""
        present = values[~np.isnan(values)]
        if present.size == 0:
            return Sketch(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), missing=values.size)
        keys, counts = combined(np.sort(cells(present)), np.ones(present.size, dtype=np.int64))
        return Sketch(keys, counts, 0, values.size - present.size, float(present.min()), float(present.max())).fitted()

    @cached_property
    def present(self) -> int:
        """Rows with a value."""
        return int(self.counts.sum())

    @property
    def rows(self) -> int:
        """Rows with or without a value."""
        return self.present + self.missing

    @property
    def is_empty(self) -> bool:
        """Whether there are no rows, as `rows` says once it has counted them."""
        return not self.missing and not self.keys.size

    @property
    def whole_share(self) -> float:
        """Share of the values in cells that begin with a whole number, as all of them do beyond 4,096; 0 without values."""
        lowest = np.abs(self.keys) << self.shift
        begins = np.where(lowest == 0, 0.0, ((lowest + FLOAT_CELLS.origin) << FLOAT_CELLS.bits).view(np.float64))
        return float(self.counts[begins == np.rint(begins)].sum() / self.present) if self.present else 0.0

    @property
    def missing_share(self) -> float:
        """Share of rows without a value; 0 without rows."""
        return self.missing / self.rows if self.rows else 0.0

    def coarsened(self, shift: int) -> "Sketch":
        """The same on a grid halved until `shift`."""
        if shift <= self.shift:
            return self
        keys, counts = combined(coarser(self.keys, shift - self.shift), self.counts)  # still sorted: coarsening is monotone
        return Sketch(keys, counts, shift, self.missing, self.low, self.high)

    def fitted(self) -> "Sketch":
        """Coarsened until it fits."""
        sketch = self
        while sketch.keys.size > MAX_KEYS:
            sketch = sketch.coarsened(sketch.shift + 1)
        return sketch

    def merged(self, other: "Sketch") -> "Sketch":
        """Of both columns together."""
        shift = max(self.shift, other.shift)
        left, right = self.coarsened(shift), other.coarsened(shift)
        keys = np.concatenate([left.keys, right.keys])
        order = np.argsort(keys, kind="stable")
        keys, counts = combined(keys[order], np.concatenate([left.counts, right.counts])[order])
        return Sketch(keys, counts, shift, self.missing + other.missing, min(self.low, other.low), max(self.high, other.high)).fitted()

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists and numbers."""
        return {
            "keys": self.keys.tolist(),
            "counts": self.counts.tolist(),
            "shift": self.shift,
            "missing": self.missing,
            "range": [self.low, self.high] if self.keys.size else None,
        }

    @staticmethod
    def load(state: dict[str, Any]) -> "Sketch":
        """From a snapshot."""
        low, high = state["range"] or (float("inf"), float("-inf"))
        keys, counts = np.array(state["keys"], dtype=np.int64), np.array(state["counts"], dtype=np.int64)
        return Sketch(keys, counts, state["shift"], state["missing"], low, high)


_NOTHING = Sketch(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def binned(reference: Sketch, current: Sketch, bins: int = 10) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts of two sketches over the same bins: about equally full under the reference, one more for missing values.

    The bins' edges are cell edges, so both histograms are exact; a cell that holds more than a bin's share is a bin of its own.
    """
    shift = max(reference.shift, current.shift)
    expected, seen = reference.coarsened(shift), current.coarsened(shift)
    if not expected.keys.size:
        return np.array([0, expected.missing]), np.array([seen.present, seen.missing])
    filled = np.cumsum(expected.counts)
    targets = filled[-1] * np.arange(1, bins) / bins
    edges = np.unique(expected.keys[np.minimum(np.searchsorted(filled, targets, side="left"), filled.size - 1)])
    size = edges.size + 1

    def counted(sketch: Sketch) -> NDArray[np.int64]:
        place = np.searchsorted(edges, sketch.keys, side="left")
        counts = np.bincount(place, weights=sketch.counts, minlength=size).astype(np.int64)
        return np.append(counts, sketch.missing)

    return counted(expected), counted(seen)
