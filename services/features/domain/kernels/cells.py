"""Cells of a group of windows, in one block of the pool, ordered by time: records, steps or sessions."""

from tidemill.services.features.domain.kernels.accumulators import empty, take_in
from tidemill.services.features.domain.kernels.blocks import allocate, free, size_class
from tidemill.services.features.domain.kernels.compiled import inner
from tidemill.services.features.domain.kernels.digest import digest_add
from tidemill.services.features.domain.kernels.words import BLOCK, CELL_DIGEST_CENTROIDS, CELL_DIGEST_WORDS, CELL_RECORDS, CLASS, POINTER, ROOM, TAIL


@inner
def first_cell(row, group, windows):  # pragma: no cover
    """Return the first cell that some window of the group still needs."""
    first = row[group.row + TAIL]
    for w in range(group.first_window, group.end_window):
        first = min(first, row[windows[w].row + POINTER])
    return first


@inner
def make_room(row, memory, group, windows):  # pragma: no cover
    """See to it that one more cell fits."""
    place, width, pool = group.row, group.width, memory.pool
    tail, room = row[place + TAIL], row[place + ROOM]
    if tail < room:
        return
    c, block = row[place + CLASS], row[place + BLOCK]
    first = first_cell(row, group, windows)
    live = tail - first
    target = block
    if c == 0 or 2 * first < room:
        larger = c + 1 if c > 0 else size_class(2 * width)
        target = allocate(memory, larger)
        row[place + CLASS], row[place + ROOM] = larger, (1 << larger) // width
    source = block + first * width
    for i in range(live * width):
        pool[target + i] = pool[source + i]
    if target != block and c > 0:
        free(memory, block, c)
    row[place + BLOCK], row[place + TAIL] = target, live
    for w in range(group.first_window, group.end_window):
        row[windows[w].row + POINTER] -= first


@inner
def open_cell(row, pool, group, p):  # pragma: no cover
    """Insert a zeroed cell at index p; returns where it begins. Call `make_room` first."""
    place, width = group.row, group.width
    tail, block = row[place + TAIL], row[place + BLOCK]
    for i in range(block + (tail + 1) * width - 1, block + (p + 1) * width - 1, -1):
        pool[i] = pool[i - width]
    at = block + p * width
    for i in range(at, at + width):
        pool[i] = 0
    row[place + TAIL] = tail + 1
    return at


@inner
def fresh_cell(memory, cell, head, columns, accumulator):  # pragma: no cover
    """Make the accumulators of a zeroed cell, one a column of values, those of nothing."""
    for v in range(columns):
        empty(memory.pool, memory.pool_f, cell + head + v * accumulator.words, accumulator)


@inner
def enter_cell(memory, cell, head, digest, values, o, accumulator):  # pragma: no cover
    """Take a record into a step's or session's cell."""
    pool, pool_f = memory.pool, memory.pool_f
    pool[cell + CELL_RECORDS] += 1
    for v in range(values.shape[1]):
        if values[o, v] == values[o, v]:
            take_in(pool, pool_f, cell + head + v * accumulator.words, values[o, v], accumulator)
            if digest >= 0:
                digest_add(pool_f, cell + digest + v * CELL_DIGEST_WORDS, CELL_DIGEST_CENTROIDS, values[o, v], 1.0)
