"""Sketches of many columns, computed together: a day of some hundred rows has more columns than work in each."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.statistics.sketch import FLOAT_CELLS, MAX_KEYS, TINY, Sketch, binned, cells, coarser
from tidemill.shared.statistics.sketch_kernel import count_cells, merge_cells, put_cells

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
_GROUP_BITS = 40
_BLOCK_VALUES = 1 << 17


@dataclass(frozen=True)
class Sketches:
    """Sketches side by side; what it computes of all equals bit for bit what `Sketch` computes of each.

    Parameters
    ----------
    parts
        The sketches, in the order of every result.
    """

    parts: Sequence[Sketch]

    @cached_property
    def lengths(self) -> Int64:
        """Cells of each, shape (n,)."""
        return np.array([part.keys.size for part in self.parts], dtype=np.int64)

    @cached_property
    def group(self) -> Int64:
        """Which sketch each cell belongs to, shape (cells,)."""
        return np.repeat(np.arange(len(self.parts)), self.lengths)

    @cached_property
    def shift(self) -> Int64:
        """Resolution of each, shape (n,)."""
        return np.array([part.shift for part in self.parts], dtype=np.int64)

    @cached_property
    def keys(self) -> Int64:
        """Cells of all, shape (cells,)."""
        return np.concatenate([part.keys for part in self.parts]) if self.parts else np.zeros(0, np.int64)

    @cached_property
    def counts(self) -> Int64:
        """Rows of every cell, shape (cells,)."""
        return np.concatenate([part.counts for part in self.parts]) if self.parts else np.zeros(0, np.int64)

    @cached_property
    def missing(self) -> Int64:
        """Missing values of each, shape (n,)."""
        return np.array([part.missing for part in self.parts], dtype=np.int64)

    @cached_property
    def range(self) -> Float64:
        """Lowest and highest value of each, shape (n, 2)."""
        return np.array([(part.low, part.high) for part in self.parts], dtype=np.float64).reshape(-1, 2)

    @cached_property
    def filled(self) -> Int64:
        """Rows up to and with every cell, those of the sketches before included, shape (cells,)."""
        return np.cumsum(self.counts)

    @cached_property
    def before(self) -> Int64:
        """Rows of the sketches before each, and of all, shape (n + 1,)."""
        return np.asarray(np.append(0, self.filled)[np.append(0, np.cumsum(self.lengths))], dtype=np.int64)

    @cached_property
    def present(self) -> Int64:
        """Rows with a value of each, shape (n,)."""
        return np.diff(self.before)

    @staticmethod
    def of(values: Float64) -> "Sketches":
        """Of columns, shape (columns, rows); NaN is missing."""
        step = max(1, _BLOCK_VALUES // max(1, values.shape[1]))
        return Sketches([part for begin in range(0, len(values), step) for part in _block(values[begin : begin + step])])

    @staticmethod
    def union(groups: Sequence[Sequence[Sketch]]) -> "Sketches":
        """Of each group, all columns together; every group has at least one."""
        if not groups:
            return Sketches([])
        flat = Sketches([part for some in groups for part in some])
        begins = np.cumsum([0, *(len(some) for some in groups)])
        first = begins[:-1]
        low, high = np.minimum.reduceat(flat.range[:, 0], first), np.maximum.reduceat(flat.range[:, 1], first)
        keys, counts = np.empty_like(flat.keys), np.empty_like(flat.counts)
        ends, shift = np.empty(len(groups) + 1, np.int64), np.empty(len(groups), np.int64)
        merge_cells(flat.keys, flat.counts, np.append(0, np.cumsum(flat.lengths)), flat.shift, begins, MAX_KEYS, keys, counts, ends, shift)
        return Sketches(_cut(keys, counts, ends, shift, np.add.reduceat(flat.missing, first), low, high))

    def quantiles(self, levels: Sequence[float]) -> Float64:
        """Return quantiles of the values that are there, right to a cell, shape (n, levels); NaN without any."""
        quantiles = np.full((len(self.parts), len(levels)), np.nan)
        some = np.flatnonzero(self.lengths)
        if some.size:
            quantiles[some] = self._values(self.cells_at(some, np.array(levels) * self.present[some, None]), some)
        return quantiles

    def cells_at(self, chosen: Int64, ranks: Float64) -> Int64:
        """Return the first cell up to which some sketches have that many rows, by its place in `keys`; ranks of shape (chosen, k)."""
        # Counts are whole numbers: up to the next one is as good, and exact beside those of the sketches before.
        wanted = self.before[chosen, None] + np.ceil(ranks).astype(np.int64)
        last = np.cumsum(self.lengths)[chosen, None] - 1
        # A cell without rows before the first of a sketch has the sum of the sketch before.
        first = last - self.lengths[chosen, None] + 1
        return np.asarray(np.clip(np.searchsorted(self.filled, wanted, side="left"), first, last), dtype=np.int64)

    def outside(self, low: Float64, high: Float64) -> Int64:
        """Rows of each in cells entirely below `low` or above `high`, shape (n,) each."""
        ends = [coarser(cells(one), self.shift)[self.group] for one in (low, high)]
        beyond = (self.keys < ends[0]) | (self.keys > ends[1])
        return np.bincount(self.group[beyond], weights=self.counts[beyond], minlength=len(self.parts)).astype(np.int64)

    def _values(self, places: Int64, chosen: Int64) -> Float64:
        """Middles of cells, shape (chosen, k), of the sketches of these rows."""
        keys, shift = self.keys[places], self.shift[chosen, None]
        # A coarser cell holds 2**shift of the finest.
        lowest = np.abs(keys) << shift
        ends = [((lowest + step + FLOAT_CELLS.origin) << FLOAT_CELLS.bits).view(np.float64) for step in (0, 1 << shift)]
        # Halved before they are added: the sum of the greatest would be infinite.
        middle = np.where(lowest == 0, 0.0, np.sign(keys) * (ends[0] / 2 + ends[1] / 2))
        return np.asarray(np.clip(middle, self.range[chosen, :1], self.range[chosen, 1:]), dtype=np.float64)


def binned_all(reference: Sketches, current: Sketches, bins: int = 10) -> list[tuple[Int64, Int64]]:
    """Counts of pairs of sketches over the same bins, as `binned` has them of each pair."""
    n = len(reference.parts)
    some = np.flatnonzero(reference.lengths)
    bins_by_row = {row: binned(reference.parts[row], current.parts[row], bins) for row in np.flatnonzero(reference.lengths == 0).tolist()}
    if some.size:
        shift = np.maximum(reference.shift, current.shift)
        expected, seen = (coarser(one.keys, (shift - one.shift)[one.group]) for one in (reference, current))
        places = reference.cells_at(some, reference.present[some, None] * np.arange(1, bins) / bins)
        edges = expected[places]
        is_edge = np.column_stack([np.ones(len(edges), np.bool_), edges[:, 1:] > edges[:, :-1]])
        count = np.zeros(n, dtype=np.int64)
        count[some] = is_edge.sum(axis=1)
        begin = np.cumsum(count) - count
        flat = ((some[:, None] << _GROUP_BITS) + edges)[is_edge]
        tables = []
        for one, keys in ((reference, expected), (current, seen)):
            place = np.searchsorted(flat, (one.group << _GROUP_BITS) + keys, side="left") - begin[one.group]
            table = np.bincount(one.group * (bins + 1) + place, weights=one.counts, minlength=n * (bins + 1)).astype(np.int64).reshape(n, bins + 1)
            table[np.arange(n), count + 1] += one.missing
            tables.append(table)
        bins_by_row |= {row: (tables[0][row, : count[row] + 2], tables[1][row, : count[row] + 2]) for row in some.tolist()}
    return [bins_by_row[row] for row in range(n)]


def _block(values: Float64) -> list[Sketch]:
    columns, rows = values.shape
    low, high = (one.reduce(values, axis=1) if rows else np.full(columns, np.nan) for one in (np.fmin, np.fmax))
    low, high = np.where(np.isnan(low), np.inf, low), np.where(np.isnan(high), -np.inf, high)
    own = np.ascontiguousarray(values)
    cells, begins = np.empty(own.size, np.int64), np.empty(columns + 1, np.int64)
    put_cells(own, own.view(np.int64), FLOAT_CELLS.origin, FLOAT_CELLS.bits, TINY, _GROUP_BITS, cells, begins)
    cells = np.sort(cells[: begins[-1]])
    keys, counts = np.empty_like(cells), np.empty_like(cells)
    ends, shift = np.empty(columns + 1, np.int64), np.empty(columns, np.int64)
    count_cells(cells, begins, _GROUP_BITS, MAX_KEYS, keys, counts, ends, shift)
    return _cut(keys, counts, ends, shift, rows - np.diff(begins), low, high)


def _cut(keys: Int64, counts: Int64, ends: Int64, shift: Int64, missing: Int64, low: Float64, high: Float64) -> list[Sketch]:
    """Make a sketch of the cells of each column."""
    rest = zip(shift.tolist(), missing.tolist(), low.tolist(), high.tolist(), strict=True)
    # Copies: a view of one column would keep the cells of all.
    return [
        Sketch(keys[begin:end].copy(), counts[begin:end].copy(), *one)
        for begin, end, one in zip(ends[:-1].tolist(), ends[1:].tolist(), rest, strict=True)
    ]
