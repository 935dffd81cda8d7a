"""The loops that read Avro records: one pass over a batch, in the calling thread, a verdict for each record.

Whatever a message holds costs time in proportion to its bytes: depth is bounded, and items that take no bytes are counted.
All that these loops call stands in this file: Numba compiles a cached function anew when its own file changes, and does not look at others.
"""

from typing import Any

import numpy as np
from numba import njit

from tidemill.shared.avro.field_kinds import BOOLEAN, BYTES, DOUBLE, ENUM, FLOAT, GROUP, INT, LONG, NULL, SKIP, SPAN, TEXT
from tidemill.shared.avro.skip_program import ARRAY, FIXED, INT32, LENGTH, MAP, NOTHING, ONE, RECORD, SYMBOL, UNION

FINE, CUT, TRAILING, BRANCH, RANGE, LENGTHS, DEPTH, ITEMS, TRUTH, SYMBOLS = range(10)
"""Verdicts."""
_DEPTH = 64
_FREE_ITEMS = 4_096


@njit(cache=True, nogil=True)
def _varint(content, at, end):  # pragma: no cover
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
def _four(content, at):  # pragma: no cover
    """Four bytes as a number, written so that the compiler makes one load of it."""
    i = np.uint64(at)
    return (
        np.uint64(content[i])
        | np.uint64(content[i + np.uint64(1)]) << np.uint64(8)
        | np.uint64(content[i + np.uint64(2)]) << np.uint64(16)
        | np.uint64(content[i + np.uint64(3)]) << np.uint64(24)
    )


@njit(cache=True, nogil=True)
def walk(content, at, end, root, nodes, children, stack, left):  # pragma: no cover
    """Walk over one value of the type `root`; returns where it ends and the verdict.

    `stack` and `left` are scratch, one entry a level. Every step takes a byte or counts against what items without bytes may be.
    """
    depth = 0
    node = np.int64(root)
    steps = np.int64(16) * (end - at) + _FREE_ITEMS
    while True:
        steps -= 1
        if steps < 0:
            return at, ITEMS
        what, size = nodes[node, 0], nodes[node, 1]
        if what == LENGTH:
            length, at = _varint(content, at, end)
            if at < 0:
                return at, CUT
            if length < 0:
                return at, LENGTHS
            if length > end - at:
                return at, CUT
            at += length
        elif what == FIXED:
            if size > end - at:
                return at, CUT
            at += size
        elif what == ONE:
            if at >= end:
                return at, CUT
            if content[np.uint64(at)] > 1:
                return at, TRUTH
            at += 1
        elif what == UNION:
            branch, at = _varint(content, at, end)
            if at < 0:
                return at, CUT
            if branch < 0 or branch >= size:
                return at, BRANCH
            node = children[nodes[node, 2] + branch]
            continue
        elif what == ARRAY or what == MAP or what == RECORD:
            if depth == _DEPTH:
                return at, DEPTH
            stack[depth] = node
            left[depth] = 0
            depth += 1
        elif what != NOTHING:
            number, at = _varint(content, at, end)
            if at < 0:
                return at, CUT
            if what == INT32 and (number < -2147483648 or number > 2147483647):
                return at, RANGE
            if what == SYMBOL and (number < 0 or number >= size):
                return at, SYMBOLS
        while True:
            if depth == 0:
                return at, FINE
            top = depth - 1
            above = stack[top]
            if nodes[above, 0] == RECORD:
                if left[top] == nodes[above, 1]:
                    depth -= 1
                    continue
                node = children[nodes[above, 2] + left[top]]
                left[top] += 1
                break
            if left[top] == 0:
                count, at = _varint(content, at, end)
                if at >= 0 and count < 0:
                    _, at = _varint(content, at, end)
                    count = -count
                if at < 0:
                    return at, CUT
                if count < 0:
                    return at, LENGTHS
                if count == 0:
                    depth -= 1
                    continue
                left[top] = count
            left[top] -= 1
            if nodes[above, 0] == MAP:
                # The key, as a value of the kind LENGTH above: one function for both costs 40 % of the time of records with maps, inlined or called.
                length, at = _varint(content, at, end)
                if at < 0:
                    return at, CUT
                if length < 0:
                    return at, LENGTHS
                if length > end - at:
                    return at, CUT
                at += length
            node = children[nodes[above, 2]]
            break


@njit(cache=True, nogil=True)
def read_rows(
    content: Any,
    begins: Any,
    stops: Any,
    exact: Any,
    kinds: Any,
    nulls: Any,
    sizes: Any,
    slots: Any,
    nodes: Any,
    children: Any,
    numbers: Any,
    valid: Any,
    places: Any,
    ends: Any,
    verdicts: Any,
) -> Any:  # pragma: no cover
    """Read every row; returns how many of them are not whole, in range, and (if `exact`) end where their message ends.

    Parameters
    ----------
    content : uint8 array
    begins, stops : int64 arrays, shape (n,)
        Where each record begins and its message ends.
    kinds, nulls, sizes, slots : arrays, shape (fields,)
        As for `write_rows`; bytes of a fixed field, symbols of an enum, the node of what is a SPAN or to SKIP, fields of a GROUP.
    nodes, children
        See `SkipTable`.
    numbers : int64 array, shape (number fields, n)
        Gets values, of doubles and floats the bits; 0 for null.
    valid : uint8 array, shape (fields, n)
        Gets 0 for null, 1 otherwise.
    places : int64 array, shape (text fields, n)
        Gets where each text begins in `content`.
    ends : int64 array, shape (text fields, n + 1)
        Gets where it ends in its column.
    verdicts : uint8 array, shape (n,)
        Gets what is wrong with each row; its columns are then null.
    """
    refused = 0
    stack, left = np.empty(_DEPTH, np.int64), np.empty(_DEPTH, np.int64)
    fields = kinds.size
    for i in range(stops.size):
        at, end = begins[i], stops[i]
        verdict = FINE
        absent = 0
        for f in range(fields):
            kind, slot = kinds[f], slots[f]
            present = True
            if absent > 0:
                absent -= 1
                present = False
            elif nulls[f] >= 0:
                if at >= end:
                    verdict = CUT
                    break
                branch = np.int64(content[np.uint64(at)])
                at += 1
                if branch > 2 or branch == 1:
                    branch, at = _varint(content, at - 1, end)
                    if at < 0 or branch < 0 or branch > 1:
                        verdict = CUT if at < 0 else BRANCH
                        break
                    branch *= 2
                present = branch != 2 * nulls[f]
                if not present and kind == GROUP:
                    absent = sizes[f]
            valid[f, i] = present
            if not present:
                if kind == TEXT or kind == BYTES or kind == SPAN:
                    places[slot, i] = 0
                    ends[slot, i + 1] = ends[slot, i]
                elif kind < SKIP:
                    numbers[slot, i] = 0
                continue
            if kind == DOUBLE:
                if end - at < 8:
                    verdict = CUT
                    break
                numbers[slot, i] = np.int64(_four(content, at) | _four(content, at + 4) << np.uint64(32))
                at += 8
            elif kind == TEXT:
                if at < end and content[np.uint64(at)] < 0x80:
                    length = np.int64(content[np.uint64(at)])
                    length = (length >> 1) ^ -(length & 1)
                    at += 1
                else:
                    length, at = _varint(content, at, end)
                if at < 0 or length > end - at:
                    verdict = CUT
                    break
                if length < 0:
                    verdict = LENGTHS
                    break
                places[slot, i] = at
                ends[slot, i + 1] = ends[slot, i] + length
                at += length
            elif kind == LONG or kind == INT or kind == ENUM:
                number, at = _varint(content, at, end)
                if at < 0:
                    verdict = CUT
                    break
                if kind != LONG:
                    if kind == INT:
                        if number < -2147483648 or number > 2147483647:
                            verdict = RANGE
                            break
                    elif number < 0 or number >= sizes[f]:
                        verdict = SYMBOLS
                        break
                numbers[slot, i] = number
            elif kind == FLOAT:
                if end - at < 4:
                    verdict = CUT
                    break
                numbers[slot, i] = np.int64(_four(content, at))
                at += 4
            elif kind == BOOLEAN:
                if at >= end:
                    verdict = CUT
                    break
                if content[np.uint64(at)] > 1:
                    verdict = TRUTH
                    break
                numbers[slot, i] = np.int64(content[np.uint64(at)])
                at += 1
            elif kind == BYTES:
                if sizes[f] > end - at:
                    verdict = CUT
                    break
                places[slot, i] = at
                ends[slot, i + 1] = ends[slot, i] + sizes[f]
                at += sizes[f]
            elif kind == SPAN or kind == SKIP:
                begun = at
                at, reason = walk(content, at, end, sizes[f], nodes, children, stack, left)
                if reason != FINE:
                    verdict = reason
                    break
                if kind == SPAN:
                    places[slot, i] = begun
                    ends[slot, i + 1] = ends[slot, i] + (at - begun)
            elif kind == NULL:
                valid[f, i] = 0
        if verdict == FINE and exact and at != end:
            verdict = TRAILING
        verdicts[i] = verdict
        if verdict != FINE:
            refused += 1
            for f in range(fields):
                valid[f, i] = 0
                slot = slots[f]
                if kinds[f] == TEXT or kinds[f] == BYTES or kinds[f] == SPAN:
                    places[slot, i] = 0
                    ends[slot, i + 1] = ends[slot, i]
                elif kinds[f] < SKIP:
                    numbers[slot, i] = 0
    return refused


@njit(cache=True, nogil=True)
def gather_texts(content: Any, places: Any, ends: Any, out: Any) -> None:  # pragma: no cover
    """Copy the texts of one column, one after the other."""
    for i in range(places.size):
        place, begin = places[i], ends[i]
        for k in range(ends[i + 1] - begin):
            out[np.uint64(begin + k)] = content[np.uint64(place + k)]


@njit(cache=True, nogil=True)
def count_items(content: Any, places: Any, ends: Any, item: Any, is_map: Any, nodes: Any, children: Any, counts: Any) -> None:  # pragma: no cover
    """Count the items of every array or map whose encoding `read_rows` has walked over; `counts` (n,) gets them."""
    stack, left = np.empty(_DEPTH, np.int64), np.empty(_DEPTH, np.int64)
    for i in range(places.size):
        counts[i] = 0
        at, end = places[i], places[i] + ends[i + 1] - ends[i]
        while at < end:
            count, at = _varint(content, at, end)
            if count < 0:
                _, at = _varint(content, at, end)
                count = -count
            counts[i] += count
            for _ in range(count):
                if is_map:
                    length, at = _varint(content, at, end)
                    at += length
                at, _ = walk(content, at, end, item, nodes, children, stack, left)


@njit(cache=True, nogil=True)
def place_items(
    content: Any, places: Any, ends: Any, item: Any, is_map: Any, nodes: Any, children: Any, begins: Any, stops: Any
) -> None:  # pragma: no cover
    """Find where every item (of a map: key and value) begins and ends, all arrays one after the other."""
    stack, left = np.empty(_DEPTH, np.int64), np.empty(_DEPTH, np.int64)
    k = 0
    for i in range(places.size):
        at, end = places[i], places[i] + ends[i + 1] - ends[i]
        while at < end:
            count, at = _varint(content, at, end)
            if count < 0:
                _, at = _varint(content, at, end)
                count = -count
            for _ in range(count):
                begins[k] = at
                if is_map:
                    length, at = _varint(content, at, end)
                    at += length
                at, _ = walk(content, at, end, item, nodes, children, stack, left)
                stops[k] = at
                k += 1


@njit(cache=True, nogil=True)
def read_branches(content: Any, places: Any, ends: Any, branches: Any, begins: Any) -> None:  # pragma: no cover
    """Read which branch each union has taken (-1 for null rows), and where its value begins."""
    for i in range(places.size):
        branches[i], begins[i] = -1, 0
        if ends[i + 1] > ends[i]:
            branches[i], begins[i] = _varint(content, places[i], places[i] + ends[i + 1] - ends[i])
