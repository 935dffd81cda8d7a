"""An entity's state as one run of words for the checkpoint, and back: the row, then what its blocks hold."""

from tidemill.services.features.domain.kernels.blocks import allocate, size_class
from tidemill.services.features.domain.kernels.cells import first_cell
from tidemill.services.features.domain.kernels.compiled import entry, inner
from tidemill.services.features.domain.kernels.distinct import SKETCH_CLASS, restore_entry, restore_table
from tidemill.services.features.domain.kernels.words import (
    BLOCK,
    CLASS,
    DIGEST_WORDS,
    DISTINCT_BLOCK,
    DISTINCT_CLASS,
    DISTINCT_USED,
    POINTER,
    ROOM,
    TAIL,
)


@inner
def packed_words(row, layout):  # pragma: no cover
    """Words an entity's blob takes."""
    distincts = layout.distincts
    n = layout.width
    for g in range(layout.groups.size):
        group = layout.groups[g]
        n += (row[group.row + TAIL] - first_cell(row, group, layout.windows)) * group.width
    for m in range(distincts.size):
        c = row[distincts[m].row + DISTINCT_CLASS]
        n += (1 << c) if c == SKETCH_CLASS else 2 * row[distincts[m].row + DISTINCT_USED]
    if layout.digest_row >= 0:
        for v in range(layout.values):
            if row[layout.digest_row + v] != 0:
                n += DIGEST_WORDS
    return n


@entry
def pack(slots, rows, memory, layout, ends, target):  # pragma: no cover
    """Write the blobs of `slots` one after the other; `ends` (from `packed_words`, cumulated) says where each ends."""
    distincts, pool = layout.distincts, memory.pool
    for k in range(slots.size):
        row = rows.words[slots[k]]
        at = ends[k - 1] if k > 0 else 0
        for i in range(layout.width):
            target[at + i] = row[i]
        at += layout.width
        for g in range(layout.groups.size):
            group = layout.groups[g]
            place, width = group.row, group.width
            first = first_cell(row, group, layout.windows)
            source = row[place + BLOCK] + first * width
            for i in range((row[place + TAIL] - first) * width):
                target[at + i] = pool[source + i]
            at += (row[place + TAIL] - first) * width
        for m in range(distincts.size):
            c, block = row[distincts[m].row + DISTINCT_CLASS], row[distincts[m].row + DISTINCT_BLOCK]
            if c == SKETCH_CLASS:
                for i in range(1 << c):
                    target[at + i] = pool[block + i]
                at += 1 << c
            elif c > 0:
                for i in range(1 << (c - 1)):
                    if pool[block + i] != 0:
                        target[at], target[at + 1] = pool[block + i], pool[block + (1 << (c - 1)) + i]
                        at += 2
        if layout.digest_row >= 0:
            for v in range(layout.values):
                block = row[layout.digest_row + v]
                if block != 0:
                    for i in range(DIGEST_WORDS):
                        target[at + i] = pool[block + i]
                    at += DIGEST_WORDS


@entry
def sizes(slots, rows, layout, out):  # pragma: no cover
    """Fill `out` with the words of each blob."""
    for k in range(slots.size):
        out[k] = packed_words(rows.words[slots[k]], layout)


@entry
def unpack(slots, rows, memory, layout, ends, source):  # pragma: no cover
    """Load blobs into empty slots; returns the number of the first that does not fit the layout, else -1."""
    distincts, pool = layout.distincts, memory.pool
    for k in range(slots.size):
        row = rows.words[slots[k]]
        at = ends[k - 1] if k > 0 else 0
        if ends[k] - at < layout.width:
            return k
        for i in range(layout.width):
            row[i] = source[at + i]
        at += layout.width
        for g in range(layout.groups.size):
            group = layout.groups[g]
            place, width = group.row, group.width
            first = first_cell(row, group, layout.windows)
            live = row[place + TAIL] - first
            for w in range(group.first_window, group.end_window):
                row[layout.windows[w].row + POINTER] -= first
            row[place + TAIL], row[place + CLASS], row[place + BLOCK], row[place + ROOM] = live, 0, 0, 0
            if live < 0 or at + live * width > ends[k]:
                return k
            if live > 0:
                c = size_class(max(live, 2) * width)
                row[place + CLASS], row[place + BLOCK], row[place + ROOM] = c, allocate(memory, c), (1 << c) // width
                for i in range(live * width):
                    pool[row[place + BLOCK] + i] = source[at + i]
                at += live * width
        for m in range(distincts.size):
            place = distincts[m].row
            c, used = row[place + DISTINCT_CLASS], row[place + DISTINCT_USED]
            row[place + DISTINCT_BLOCK] = 0
            if c == 0:
                continue
            words = (1 << c) if c == SKETCH_CLASS else 2 * used
            if at + words > ends[k]:
                return k
            block = restore_table(memory, c)
            row[place + DISTINCT_BLOCK] = block
            if c == SKETCH_CLASS:
                for i in range(1 << c):
                    pool[block + i] = source[at + i]
            else:
                for i in range(used):
                    restore_entry(pool, block, c, source[at + 2 * i], source[at + 2 * i + 1])
            at += words
        if layout.digest_row >= 0:
            for v in range(layout.values):
                place = layout.digest_row + v
                if row[place] != 0:
                    if at + DIGEST_WORDS > ends[k]:
                        return k
                    row[place] = allocate(memory, size_class(DIGEST_WORDS))
                    for i in range(DIGEST_WORDS):
                        pool[row[place] + i] = source[at + i]
                    at += DIGEST_WORDS
        if at != ends[k]:
            return k
    return -1
