"""The loops that make and merge the cells of many sketches: one pass over each, in the calling thread.

All that these loops call stands in this file: Numba compiles a cached function anew when its own file changes, and does not look at others.
"""

from typing import Any

import numpy as np
from numba import njit

_SPREAD = 8
"""A stretch of the grid with so many places for each cell, or fewer, is counted place by place."""


@njit(cache=True, inline="always")
def _coarser(key: Any, by: Any) -> Any:  # pragma: no cover
    """Return the cell of a grid that is halved so many times."""
    return key >> by if key >= 0 else -(-key >> by)


@njit(cache=True, inline="always")
def _fit(keys: Any, counts: Any, begin: Any, end: Any, most: Any) -> Any:  # pragma: no cover
    """Halve the grid of sorted cells in place until they are no more than `most`; returns where they end then, and how often it was halved."""
    halved = 0
    while end - begin > most:
        halved += 1
        n = begin
        for i in range(begin, end):
            key = _coarser(keys[i], 1)
            if n > begin and keys[n - 1] == key:
                counts[n - 1] += counts[i]
            else:
                keys[n], counts[n] = key, counts[i]
                n += 1
        end = n
    return end, halved


@njit(cache=True, nogil=True)
def put_cells(values: Any, bits: Any, origin: Any, cell_bits: Any, least: Any, group_bits: Any, out: Any, ends: Any) -> None:  # pragma: no cover
    """Write the finest cell of every number, behind the number of its column.

    Parameters
    ----------
    values, bits : float64 and int64 arrays, shape (columns, rows)
        The same numbers; NaN is missing.
    origin, cell_bits, least
        As `FloatCells`; the smallest magnitude that is not in the cell of zero.
    out : int64 array
        As long as there are numbers.
    ends : int64 array, shape (columns + 1,)
        Where the cells of each column begin and end in `out`.
    """
    n = 0
    ends[0] = 0
    for column in range(values.shape[0]):
        base = np.int64(column) << group_bits
        for row in range(values.shape[1]):
            value = values[column, row]
            if value == value:
                key = np.int64(0)
                if abs(value) >= least:
                    key = ((bits[column, row] & np.int64(0x7FFFFFFFFFFFFFFF)) >> cell_bits) - origin
                    if value < 0:
                        key = -key
                out[n] = base + key
                n += 1
        ends[column + 1] = n


@njit(cache=True, nogil=True)
def count_cells(cells: Any, ends: Any, group_bits: Any, most: Any, keys: Any, counts: Any, out_ends: Any, shift: Any) -> None:  # pragma: no cover
    """Count equal cells of each column, on the finest grid on which there are no more than `most`.

    Parameters
    ----------
    cells, ends : int64 arrays
        As `put_cells` has them, sorted.
    keys, counts : int64 arrays
        As long as `cells`.
    out_ends, shift : int64 arrays, shapes (columns + 1,) and (columns,)
        Where those of each column begin and end; how often its grid was halved.
    """
    n = 0
    out_ends[0] = 0
    for column in range(ends.size - 1):
        base = np.int64(column) << group_bits
        begin = n
        for i in range(ends[column], ends[column + 1]):
            key = cells[i] - base
            if n > begin and keys[n - 1] == key:
                counts[n - 1] += 1
            else:
                keys[n], counts[n] = key, 1
                n += 1
        n, shift[column] = _fit(keys, counts, begin, n, most)
        out_ends[column + 1] = n


@njit(cache=True, nogil=True)
def merge_cells(
    keys: Any, counts: Any, ends: Any, shift: Any, begins: Any, most: Any, out_keys: Any, out_counts: Any, out_ends: Any, out_shift: Any
) -> None:  # pragma: no cover
    """Add up the sorted cells of the sketches of each group, on the finest grid on which there are no more than `most`.

    A grid that is too fine for some of the sketches of a group is so for all of them: it may be halved as soon as it is.

    Parameters
    ----------
    keys, counts : int64 arrays
        Cells of all sketches, one sketch after another.
    ends, shift : int64 arrays, shapes (sketches + 1,) and (sketches,)
        Where the cells of each begin and end; its resolution.
    begins : int64 array, shape (groups + 1,)
        Where the sketches of each group begin and end.
    out_keys, out_counts : int64 arrays
        As long as `keys`.
    out_ends, out_shift : int64 arrays, shapes (groups + 1,) and (groups,)
        Where the cells of each group begin and end; its resolution.
    """
    longest = most
    for part in range(shift.size):
        longest = max(longest, ends[part + 1] - ends[part])
    room, table = np.empty((2, 2, most + longest), np.int64), np.empty(_SPREAD * keys.size, np.int64)
    done = 0
    out_ends[0] = 0
    for group in range(begins.size - 1):
        done_before, coarse, low, high, cells = done, np.int64(0), np.int64(1 << 62), np.int64(-(1 << 62)), 0
        for part in range(begins[group], begins[group + 1]):
            coarse = max(coarse, shift[part])
            cells += ends[part + 1] - ends[part]
        for part in range(begins[group], begins[group + 1]):
            if ends[part + 1] > ends[part]:
                low = min(low, _coarser(keys[ends[part]], coarse - shift[part]))
                high = max(high, _coarser(keys[ends[part + 1] - 1], coarse - shift[part]))
        if cells > 0 and high - low < _SPREAD * cells:
            # No branch depends on which of two cells is less: what merging costs most.
            table[: high - low + 1] = -1
            for part in range(begins[group], begins[group + 1]):
                by = coarse - shift[part]
                for i in range(ends[part], ends[part + 1]):
                    place = _coarser(keys[i], by) - low
                    table[place] = counts[i] + max(table[place], 0)
            for place in range(high - low + 1):
                if table[place] >= 0:
                    out_keys[done], out_counts[done] = place + low, table[place]
                    done += 1
            done, more = _fit(out_keys, out_counts, done_before, done, most)
            out_ends[group + 1], out_shift[group] = done, coarse + more
            continue
        now, n, halved = 0, 0, shift[begins[group]]
        for part in range(begins[group], begins[group + 1]):
            new = 1 - now
            coarse = max(halved, shift[part])
            old_by, new_by = coarse - halved, coarse - shift[part]
            i, j, end, m = 0, ends[part], ends[part + 1], 0
            while i < n or j < end:
                left = right = np.int64(0)
                if i < n:
                    left = room[now, 0, i]
                    left = _coarser(left, old_by)
                if j < end:
                    right = _coarser(keys[j], new_by)
                if j == end or (i < n and left <= right):
                    key, count = left, room[now, 1, i]
                    i += 1
                else:
                    key, count = right, counts[j]
                    j += 1
                if m > 0 and room[new, 0, m - 1] == key:
                    room[new, 1, m - 1] += count
                else:
                    room[new, 0, m], room[new, 1, m] = key, count
                    m += 1
            n, more = _fit(room[new, 0], room[new, 1], 0, m, most)
            now, halved = new, coarse + more
        out_keys[done : done + n] = room[now, 0, :n]
        out_counts[done : done + n] = room[now, 1, :n]
        done += n
        out_ends[group + 1], out_shift[group] = done, halved
