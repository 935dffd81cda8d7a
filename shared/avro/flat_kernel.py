"""The loops that write and read flat Avro records: one pass over a batch, in the calling thread."""

from typing import Any

import numpy as np
from numba import njit

TEXT, LONG, DOUBLE, FLOAT, BOOLEAN, INT = range(6)


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


@njit(cache=True)
def _varint(content, at, end):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Read a zig-zag number; returns it and where it ends, -1 when it does not end in time or has more than 64 bits."""
    bits, shift = np.uint64(0), np.uint64(0)
    while at < end and shift < np.uint64(64):
        byte = np.uint64(content[np.uint64(at)])
        at += 1
        if shift == np.uint64(63) and byte > np.uint64(1):
            return np.int64(0), np.int64(-1)
        bits |= (byte & np.uint64(0x7F)) << shift
        if byte < np.uint64(0x80):
            return np.int64(bits >> np.uint64(1)) ^ -np.int64(bits & np.uint64(1)), at
        shift += np.uint64(7)
    return np.int64(0), np.int64(-1)


@njit(cache=True, inline="always")
def _four(content, at):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Four bytes as a number, written so that the compiler makes one load of it."""
    i = np.uint64(at)
    return (
        np.uint64(content[i])
        | np.uint64(content[i + np.uint64(1)]) << np.uint64(8)
        | np.uint64(content[i + np.uint64(2)]) << np.uint64(16)
        | np.uint64(content[i + np.uint64(3)]) << np.uint64(24)
    )


@njit(cache=True, nogil=True)
def read_rows(content: Any, stops: Any, skip: Any, kinds: Any, nulls: Any, slots: Any, numbers: Any, valid: Any, places: Any, ends: Any) -> Any:  # noqa: ANN401, RUF100  # pragma: no cover
    """Read every row; returns whether all of them are whole, in range, and end where their message ends.

    Parameters
    ----------
    content : uint8 array
    stops : int64 array, shape (n + 1,)
        Where each message begins and ends.
    skip
        Bytes at the beginning of each that are not read.
    kinds, nulls, slots : arrays, shape (fields,)
        As for `write_rows`; a long of 32 bits is an INT.
    numbers : int64 array, shape (number fields, n)
        Gets values, of doubles and floats the bits; 0 for null.
    valid : uint8 array, shape (fields, n)
        Gets 0 for null, 1 otherwise.
    places : int64 array, shape (text fields, n)
        Gets where each text begins in `content`.
    ends : int64 array, shape (text fields, n + 1)
        Gets where it ends in its column.
    """
    for i in range(stops.size - 1):
        at, end = stops[i] + skip, stops[i + 1]
        for f in range(kinds.size):
            kind, slot = kinds[f], slots[f]
            present = True
            if nulls[f] >= 0:
                if at >= end:
                    return False
                branch = content[np.uint64(at)]
                if branch != 0 and branch != 2:
                    return False
                present = branch != 2 * nulls[f]
                at += 1
            valid[f, i] = present
            if not present:
                if kind == TEXT:
                    places[slot, i] = 0
                    ends[slot, i + 1] = ends[slot, i]
                else:
                    numbers[slot, i] = 0
                continue
            if kind == DOUBLE:
                if end - at < 8:
                    return False
                numbers[slot, i] = np.int64(_four(content, at) | _four(content, at + 4) << np.uint64(32))
                at += 8
            elif kind == TEXT:
                if at < end and content[np.uint64(at)] < 0x80:
                    length = np.int64(content[np.uint64(at)])
                    length = (length >> 1) ^ -(length & 1)
                    at += 1
                else:
                    length, at = _varint(content, at, end)
                if at < 0 or length < 0 or length > end - at:
                    return False
                places[slot, i] = at
                ends[slot, i + 1] = ends[slot, i] + length
                at += length
            elif kind == LONG or kind == INT:
                number, at = _varint(content, at, end)
                if at < 0 or (kind == INT and (number < -2147483648 or number > 2147483647)):
                    return False
                numbers[slot, i] = number
            elif kind == FLOAT:
                if end - at < 4:
                    return False
                numbers[slot, i] = np.int64(_four(content, at))
                at += 4
            else:
                if end - at < 1 or content[np.uint64(at)] > 1:
                    return False
                numbers[slot, i] = np.int64(content[np.uint64(at)])
                at += 1
        if at != end:
            return False
    return True


@njit(cache=True, nogil=True)
def gather_texts(content: Any, places: Any, ends: Any, out: Any) -> None:  # noqa: ANN401, RUF100  # pragma: no cover
    """Copy the texts of one column, one after the other."""
    for i in range(places.size):
        place, begin = places[i], ends[i]
        for k in range(ends[i + 1] - begin):
            out[np.uint64(begin + k)] = content[np.uint64(place + k)]
