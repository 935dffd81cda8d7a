"""Cells of a group of windows, in one block of the pool, ordered by time: records, steps or sessions."""

from tidemill.services.features.domain.kernels.accumulators import empty, take_in
from tidemill.services.features.domain.kernels.blocks import allocate, free, size_class
from tidemill.services.features.domain.kernels.compiled import inner
from tidemill.services.features.domain.kernels.digest import digest_add
from tidemill.services.features.domain.kernels.layout import (
    BLOCK,
    CELL_DIGEST_CENTROIDS,
    CELL_RECORDS,
    CLASS,
    DIGEST_HEAD,
    G_FIRST,
    G_ROW,
    G_WIDTH,
    G_WINDOWS,
    L_ACC_WORDS,
    L_VALUES,
    POINTER,
    ROOM,
    TAIL,
    W_ROW,
)

_CELL_DIGEST_WORDS = DIGEST_HEAD + 2 * CELL_DIGEST_CENTROIDS


@inner
def first_cell(row, groups, windows, g):  # pragma: no cover
    """Return the first cell that some window of the group still needs."""
    first = row[groups[g, G_ROW] + TAIL]
    for w in range(groups[g, G_FIRST], groups[g, G_FIRST] + groups[g, G_WINDOWS]):
        first = min(first, row[windows[w, W_ROW] + POINTER])
    return first


@inner
def make_room(row, pool, heads, groups, windows, g):  # pragma: no cover
    """See to it that one more cell fits."""
    place, width = groups[g, G_ROW], groups[g, G_WIDTH]
    tail, room = row[place + TAIL], row[place + ROOM]
    if tail < room:
        return
    c, block = row[place + CLASS], row[place + BLOCK]
    first = first_cell(row, groups, windows, g)
    live = tail - first
    target = block
    if c == 0 or 2 * first < room:
        larger = c + 1 if c > 0 else size_class(2 * width)
        target = allocate(pool, heads, larger)
        row[place + CLASS], row[place + ROOM] = larger, (1 << larger) // width
    source = block + first * width
    for i in range(live * width):
        pool[target + i] = pool[source + i]
    if target != block and c > 0:
        free(pool, heads, block, c)
    row[place + BLOCK], row[place + TAIL] = target, live
    for w in range(groups[g, G_FIRST], groups[g, G_FIRST] + groups[g, G_WINDOWS]):
        row[windows[w, W_ROW] + POINTER] -= first


@inner
def open_cell(row, pool, heads, groups, windows, g, p):  # pragma: no cover
    """Insert a zeroed cell at index p; returns where it begins. Call `make_room` first."""
    place, width = groups[g, G_ROW], groups[g, G_WIDTH]
    tail, block = row[place + TAIL], row[place + BLOCK]
    for i in range(block + (tail + 1) * width - 1, block + (p + 1) * width - 1, -1):
        pool[i] = pool[i - width]
    at = block + p * width
    for i in range(at, at + width):
        pool[i] = 0
    row[place + TAIL] = tail + 1
    return at


@inner
def fresh_cell(pool, pool_f, cell, head, scalars):  # pragma: no cover
    """Make the accumulators of a zeroed cell those of nothing."""
    for v in range(scalars[L_VALUES]):
        empty(pool, pool_f, cell + head + v * scalars[L_ACC_WORDS], scalars)


@inner
def enter_cell(pool, pool_f, cell, head, digest, op_value, o, scalars):  # pragma: no cover
    """Take a record into a step's or session's cell."""
    pool[cell + CELL_RECORDS] += 1
    for v in range(scalars[L_VALUES]):
        if op_value[o, v] == op_value[o, v]:
            take_in(pool, pool_f, cell + head + v * scalars[L_ACC_WORDS], op_value[o, v], scalars)
            if digest >= 0:
                digest_add(pool_f, cell + digest + v * _CELL_DIGEST_WORDS, CELL_DIGEST_CENTROIDS, op_value[o, v], 1.0)
