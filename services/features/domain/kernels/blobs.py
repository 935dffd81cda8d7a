"""An entity's state as one run of words for the checkpoint, and back: the row, then what its blocks hold."""

from tidemill.services.features.domain.kernels.blocks import allocate, size_class
from tidemill.services.features.domain.kernels.cells import first_cell
from tidemill.services.features.domain.kernels.compiled import entry, inner
from tidemill.services.features.domain.kernels.distinct import SKETCH_CLASS, restore_entry, restore_table
from tidemill.services.features.domain.kernels.layout import (
    BLOCK,
    CLASS,
    DIGEST_CENTROIDS,
    DIGEST_HEAD,
    DISTINCT_BLOCK,
    DISTINCT_CLASS,
    DISTINCT_USED,
    G_FIRST,
    G_ROW,
    G_WIDTH,
    G_WINDOWS,
    L_DIGEST_ROW,
    L_VALUES,
    L_WIDTH,
    M_ROW,
    POINTER,
    ROOM,
    TAIL,
    W_ROW,
)

_DIGEST_WORDS = DIGEST_HEAD + 2 * DIGEST_CENTROIDS


@inner
def packed_words(row, scalars, groups, windows, distincts):  # pragma: no cover
    """Words an entity's blob takes."""
    n = scalars[L_WIDTH]
    for g in range(groups.shape[0]):
        n += (row[groups[g, G_ROW] + TAIL] - first_cell(row, groups, windows, g)) * groups[g, G_WIDTH]
    for m in range(distincts.shape[0]):
        c = row[distincts[m, M_ROW] + DISTINCT_CLASS]
        n += (1 << c) if c == SKETCH_CLASS else 2 * row[distincts[m, M_ROW] + DISTINCT_USED]
    if scalars[L_DIGEST_ROW] >= 0:
        for v in range(scalars[L_VALUES]):
            if row[scalars[L_DIGEST_ROW] + v] != 0:
                n += _DIGEST_WORDS
    return n


@entry
def pack(slots, rows, pool, scalars, groups, windows, distincts, ends, target):  # pragma: no cover
    """Write the blobs of `slots` one after the other; `ends` (from `packed_words`, cumulated) says where each ends."""
    for k in range(slots.size):
        row = rows[slots[k]]
        at = ends[k - 1] if k > 0 else 0
        for i in range(scalars[L_WIDTH]):
            target[at + i] = row[i]
        at += scalars[L_WIDTH]
        for g in range(groups.shape[0]):
            place, width = groups[g, G_ROW], groups[g, G_WIDTH]
            first = first_cell(row, groups, windows, g)
            source = row[place + BLOCK] + first * width
            for i in range((row[place + TAIL] - first) * width):
                target[at + i] = pool[source + i]
            at += (row[place + TAIL] - first) * width
        for m in range(distincts.shape[0]):
            c, block = row[distincts[m, M_ROW] + DISTINCT_CLASS], row[distincts[m, M_ROW] + DISTINCT_BLOCK]
            if c == SKETCH_CLASS:
                for i in range(1 << c):
                    target[at + i] = pool[block + i]
                at += 1 << c
            elif c > 0:
                for i in range(1 << (c - 1)):
                    if pool[block + i] != 0:
                        target[at], target[at + 1] = pool[block + i], pool[block + (1 << (c - 1)) + i]
                        at += 2
        if scalars[L_DIGEST_ROW] >= 0:
            for v in range(scalars[L_VALUES]):
                block = row[scalars[L_DIGEST_ROW] + v]
                if block != 0:
                    for i in range(_DIGEST_WORDS):
                        target[at + i] = pool[block + i]
                    at += _DIGEST_WORDS


@entry
def sizes(slots, rows, scalars, groups, windows, distincts, out):  # pragma: no cover
    """Fill `out` with the words of each blob."""
    for k in range(slots.size):
        out[k] = packed_words(rows[slots[k]], scalars, groups, windows, distincts)


@entry
def unpack(slots, rows, pool, heads, scalars, groups, windows, distincts, ends, source):  # pragma: no cover
    """Load blobs into empty slots; returns the number of the first that does not fit the layout, else -1."""
    for k in range(slots.size):
        row = rows[slots[k]]
        at = ends[k - 1] if k > 0 else 0
        if ends[k] - at < scalars[L_WIDTH]:
            return k
        for i in range(scalars[L_WIDTH]):
            row[i] = source[at + i]
        at += scalars[L_WIDTH]
        for g in range(groups.shape[0]):
            place, width = groups[g, G_ROW], groups[g, G_WIDTH]
            first = first_cell(row, groups, windows, g)
            live = row[place + TAIL] - first
            for w in range(groups[g, G_FIRST], groups[g, G_FIRST] + groups[g, G_WINDOWS]):
                row[windows[w, W_ROW] + POINTER] -= first
            row[place + TAIL], row[place + CLASS], row[place + BLOCK], row[place + ROOM] = live, 0, 0, 0
            if live < 0 or at + live * width > ends[k]:
                return k
            if live > 0:
                c = size_class(max(live, 2) * width)
                row[place + CLASS], row[place + BLOCK], row[place + ROOM] = c, allocate(pool, heads, c), (1 << c) // width
                for i in range(live * width):
                    pool[row[place + BLOCK] + i] = source[at + i]
                at += live * width
        for m in range(distincts.shape[0]):
            place = distincts[m, M_ROW]
            c, used = row[place + DISTINCT_CLASS], row[place + DISTINCT_USED]
            row[place + DISTINCT_BLOCK] = 0
            if c == 0:
                continue
            words = (1 << c) if c == SKETCH_CLASS else 2 * used
            if at + words > ends[k]:
                return k
            block = restore_table(pool, heads, c)
            row[place + DISTINCT_BLOCK] = block
            if c == SKETCH_CLASS:
                for i in range(1 << c):
                    pool[block + i] = source[at + i]
            else:
                for i in range(used):
                    restore_entry(pool, block, c, source[at + 2 * i], source[at + 2 * i + 1])
            at += words
        if scalars[L_DIGEST_ROW] >= 0:
            for v in range(scalars[L_VALUES]):
                place = scalars[L_DIGEST_ROW] + v
                if row[place] != 0:
                    if at + _DIGEST_WORDS > ends[k]:
                        return k
                    row[place] = allocate(pool, heads, size_class(_DIGEST_WORDS))
                    for i in range(_DIGEST_WORDS):
                        pool[row[place] + i] = source[at + i]
                    at += _DIGEST_WORDS
        if at != ends[k]:
            return k
    return -1
