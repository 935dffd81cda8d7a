"""The loops that write Avro records: one pass over a batch, in the calling thread.

All that these loops call stands in this file: Numba compiles a cached function anew when its own file changes, and does not look at others.
"""

from typing import Any

import numpy as np
from numba import njit

from tidemill.shared.avro.field_kinds import BOOLEAN, DOUBLE, FLOAT, GROUP, LONG, TEXT


@njit(cache=True)
def _put_varint(out, at, value):  # pragma: no cover
    rest = np.uint64((value << np.int64(1)) ^ (value >> np.int64(63)))
    while rest >= np.uint64(0x80):
        out[at] = np.uint8((rest & np.uint64(0x7F)) | np.uint64(0x80))
        at += 1
        rest >>= np.uint64(7)
    out[at] = np.uint8(rest)
    return at + 1


@njit(cache=True)
def _put_four(out, at, bits):  # pragma: no cover
    out[at] = np.uint8(bits)
    out[at + 1] = np.uint8(bits >> np.uint64(8))
    out[at + 2] = np.uint8(bits >> np.uint64(16))
    out[at + 3] = np.uint8(bits >> np.uint64(24))


@njit(cache=True)
def write_rows(
    head: Any, kinds: Any, nulls: Any, sizes: Any, slots: Any, numbers: Any, valid: Any, ends: Any, texts: Any, out: Any, stops: Any
) -> None:  # pragma: no cover
    """Write every row behind the header.

    Parameters
    ----------
    head : uint8 array
    kinds, nulls, sizes, slots : arrays, shape (fields,)
        Kind of each field, the branch of its union that is null (-1: no union), of a GROUP how many fields belong to it, its row in
        `numbers` or `ends`.
    numbers : int64 array, shape (number fields, n)
        Values; of doubles and floats the bits.
    valid : uint8 array, shape (fields, n)
    ends : int64 array, shape (text fields, n + 1)
        Where texts begin and end in `texts`.
    out : uint8 array
        Long enough for the longest encoding.
    stops : int64 array, shape (n + 1,)
        Where each row begins and ends in `out`.
    """
    at = np.int64(0)
    stops[0] = 0
    fields = kinds.size
    for i in range(stops.size - 1):
        for k in range(head.size):
            out[at + k] = head[k]
        at += head.size
        f = -1
        while f + 1 < fields:
            f += 1
            if nulls[f] >= 0:
                present = valid[f, i] != 0
                out[at] = np.uint8(2 * (1 - nulls[f])) if present else np.uint8(2 * nulls[f])
                at += 1
                if not present:
                    if kinds[f] == GROUP:
                        f += sizes[f]
                    continue
            kind, slot = kinds[f], slots[f]
            if kind == DOUBLE:
                bits = np.uint64(numbers[slot, i])
                _put_four(out, at, bits)
                _put_four(out, at + 4, bits >> np.uint64(32))
                at += 8
            elif kind == TEXT:
                begin, end = ends[slot, i], ends[slot, i + 1]
                at = _put_varint(out, at, end - begin)
                for k in range(end - begin):
                    out[at + k] = texts[begin + k]
                at += end - begin
            elif kind == LONG:
                at = _put_varint(out, at, numbers[slot, i])
            elif kind == BOOLEAN:
                out[at] = np.uint8(numbers[slot, i])
                at += 1
            elif kind == FLOAT:
                _put_four(out, at, np.uint64(numbers[slot, i]))
                at += 4
            elif kind != GROUP:
                begin, end = ends[slot, i], ends[slot, i + 1]
                for k in range(end - begin):
                    out[at + k] = texts[begin + k]
                at += end - begin
        stops[i + 1] = at


@njit(cache=True, nogil=True)
def join_items(content: Any, stops: Any, offsets: Any, valid: Any, out: Any, ends: Any) -> None:  # pragma: no cover
    """Write arrays (or maps) as one block each, from the encodings of their items.

    Parameters
    ----------
    stops : int64 array, shape (items + 1,)
        Where each item begins and ends in `content`.
    offsets : int64 array, shape (n + 1,)
        First item of each array; null rows (`valid` 0) are written as nothing.
    ends : int64 array, shape (n + 1,)
        Gets where each begins and ends in `out`.
    """
    at = np.int64(0)
    ends[0] = 0
    for i in range(offsets.size - 1):
        if valid[i]:
            first, last = offsets[i], offsets[i + 1]
            if last > first:
                at = _put_varint(out, at, last - first)
                for k in range(stops[last] - stops[first]):
                    out[at + k] = content[stops[first] + k]
                at += stops[last] - stops[first]
            out[at] = 0
            at += 1
        ends[i + 1] = at
