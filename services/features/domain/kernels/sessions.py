"""Sessions: records with no gap longer than the window's between them. A late record may open, lengthen or join sessions."""

from tidemill.services.features.domain.kernels.accumulators import change_unit, empty, take_cell
from tidemill.services.features.domain.kernels.cells import enter_cell, first_cell, fresh_cell, make_room, open_cell
from tidemill.services.features.domain.kernels.compiled import inner
from tidemill.services.features.domain.kernels.digest import digest_merge
from tidemill.services.features.domain.kernels.sums import unit
from tidemill.services.features.domain.kernels.words import (
    BLOCK,
    CELL_DIGEST_CENTROIDS,
    CELL_DIGEST_WORDS,
    CELL_END,
    CELL_RECORDS,
    CELL_TIME,
    IN_WINDOW,
    LARGEST,
    TAIL,
    WINDOW_WORDS,
    N,
)


@inner
def _join_cells(row, memory, layout, g, left):  # pragma: no cover
    """Merge session left + 1 into session left."""
    accumulator = layout.accumulator
    pool, pool_f = memory.pool, memory.pool_f
    group = layout.groups[g]
    place, width = group.row, group.width
    block, tail = row[place + BLOCK], row[place + TAIL]
    one, two = block + left * width, block + (left + 1) * width
    pool[one + CELL_TIME] = min(pool[one + CELL_TIME], pool[two + CELL_TIME])
    pool[one + CELL_END] = max(pool[one + CELL_END], pool[two + CELL_END])
    pool[one + CELL_RECORDS] += pool[two + CELL_RECORDS]
    for v in range(layout.values):
        a, b = one + CELL_END + 1 + v * accumulator.words, two + CELL_END + 1 + v * accumulator.words
        pool[a + N] += pool[b + N]
        if pool_f[b + LARGEST] > pool_f[a + LARGEST]:
            change_unit(pool_f, a, unit(pool_f[a + LARGEST]), unit(pool_f[b + LARGEST]), accumulator)
            pool_f[a + LARGEST] = pool_f[b + LARGEST]
        take_cell(pool_f, a, pool_f, b, accumulator, 1.0)
        if accumulator.low >= 0:
            pool_f[a + accumulator.low] = min(pool_f[a + accumulator.low], pool_f[b + accumulator.low])
        if accumulator.high >= 0:
            pool_f[a + accumulator.high] = max(pool_f[a + accumulator.high], pool_f[b + accumulator.high])
        if group.digest >= 0:
            shift = group.digest + v * CELL_DIGEST_WORDS
            digest_merge(pool_f, one + shift, two + shift, CELL_DIGEST_CENTROIDS)
    for i in range(two, block + (tail - 1) * width):
        pool[i] = pool[i + width]
    row[place + TAIL] = tail - 1


@inner
def enter_session(row, memory, layout, g, at, values, o):  # pragma: no cover
    """Take a record into the session it belongs to, and join the neighbours it connects."""
    accumulator = layout.accumulator
    pool = memory.pool
    group = layout.groups[g]
    place, width, gap = group.row, group.width, group.step_ms
    make_room(row, memory, group, layout.windows)
    block, first = row[place + BLOCK], first_cell(row, group, layout.windows)
    i = row[place + TAIL] - 1
    while i >= first and at < pool[block + i * width + CELL_TIME] - gap:
        i -= 1
    if i >= first and at <= pool[block + i * width + CELL_END] + gap:
        cell = block + i * width
        pool[cell + CELL_TIME] = min(pool[cell + CELL_TIME], at)
        pool[cell + CELL_END] = max(pool[cell + CELL_END], at)
    else:
        i += 1
        cell = open_cell(row, memory.pool, group, i)
        pool[cell + CELL_TIME], pool[cell + CELL_END] = at, at
        fresh_cell(memory, cell, CELL_END + 1, layout.values, accumulator)
    enter_cell(memory, cell, CELL_END + 1, group.digest, values, o, accumulator)
    if i + 1 < row[place + TAIL] and pool[cell + width + CELL_TIME] - pool[cell + CELL_END] <= gap:
        _join_cells(row, memory, layout, g, i)
    if i > first and pool[cell + CELL_TIME] - pool[cell - width + CELL_END] <= gap:
        _join_cells(row, memory, layout, g, i - 1)


@inner
def open_session(row, row_f, memory, layout, w, now):  # pragma: no cover
    """Copy the session that is open at `now` into the window's accumulators, and return where its cell is; -1 and nothing when none is."""
    accumulator = layout.accumulator
    windows, pool = layout.windows, memory.pool
    g, base = windows[w].group, windows[w].row
    group = layout.groups[g]
    place, width = group.row, group.width
    tail = row[place + TAIL]
    cell = row[place + BLOCK] + (tail - 1) * width
    if tail == 0 or now - pool[cell + CELL_END] > group.step_ms:
        row[base + IN_WINDOW] = 0
        for v in range(layout.values):
            empty(row, row_f, base + WINDOW_WORDS + v * accumulator.words, accumulator)
        return -1
    row[base + IN_WINDOW] = pool[cell + CELL_RECORDS]
    for i in range(layout.values * accumulator.words):
        row[base + WINDOW_WORDS + i] = pool[cell + CELL_END + 1 + i]
    return cell
