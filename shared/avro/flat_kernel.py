"""The loop that writes flat Avro records: one pass over a batch, in the calling thread."""

from typing import Any

import numpy as np
from numba import njit

TEXT, LONG, DOUBLE, FLOAT, BOOLEAN = range(5)


@njit(cache=True)
def _put_varint(out, at, value):  # type: ignore[no-untyped-def]  # pragma: no cover
    rest = np.uint64((value << np.int64(1)) ^ (value >> np.int64(63)))
    while rest >= np.uint64(0x80):
        out[at] = np.uint8((rest & np.uint64(0x7F)) | np.uint64(0x80))
        at += 1
        rest >>= np.uint64(7)
    out[at] = np.uint8(rest)
    return at + 1


@njit(cache=True)
def _put_four(out, at, bits):  # type: ignore[no-untyped-def]  # pragma: no cover
    out[at] = np.uint8(bits)
    out[at + 1] = np.uint8(bits >> np.uint64(8))
    out[at + 2] = np.uint8(bits >> np.uint64(16))
    out[at + 3] = np.uint8(bits >> np.uint64(24))


@njit(cache=True)
def write_rows(head: Any, kinds: Any, nulls: Any, slots: Any, numbers: Any, valid: Any, ends: Any, texts: Any, out: Any, stops: Any) -> None:  # noqa: ANN401, RUF100  # pragma: no cover
    """Write every row behind the header.

    Parameters
    ----------
    head : uint8 array
    kinds, nulls, slots : arrays, shape (fields,)
        Kind of each field, the branch of its union that is null (-1: no union), its row in `numbers` or `ends`.
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
    for i in range(stops.size - 1):
        for k in range(head.size):
            out[at + k] = head[k]
        at += head.size
        for f in range(kinds.size):
            if nulls[f] >= 0:
                present = valid[f, i] != 0
                out[at] = np.uint8(2 * (1 - nulls[f])) if present else np.uint8(2 * nulls[f])
                at += 1
                if not present:
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
            else:
                _put_four(out, at, np.uint64(numbers[slot, i]))
                at += 4
        stops[i + 1] = at
