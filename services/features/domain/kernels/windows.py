"""Records inside windows: what enters, what leaves, in one block of cells a group, ordered by event time.

Windows of one step share their cells. A cell of an exact group is one record; of a stepped group, all records of one step; of a session group, one
session. Every window keeps a pointer to its first cell and running accumulators, so a record costs a few additions when it enters and
when it leaves, whatever the window's length. A record out of order goes to its place.
"""

import numpy as np

from tidemill.services.features.domain.kernels.accumulators import are_lost, empty, forget_extremes, take_cell, take_in
from tidemill.services.features.domain.kernels.cells import enter_cell, first_cell, fresh_cell, make_room, open_cell
from tidemill.services.features.domain.kernels.compiled import inner
from tidemill.services.features.domain.kernels.kinds import WindowKind
from tidemill.services.features.domain.kernels.sessions import enter_session
from tidemill.services.features.domain.kernels.sums import add, add_square, is_plain, unit
from tidemill.services.features.domain.kernels.words import (
    BLOCK,
    CELL_END,
    CELL_RECORDS,
    CELL_TIME,
    IN_WINDOW,
    LARGEST,
    NEWEST,
    POINTER,
    SUM,
    SUM_REST,
    TAIL,
    WINDOW_WORDS,
    N,
)


@inner
def _let_go(row, row_f, memory, place, base, kind, layout):  # pragma: no cover
    """Take the cell at `place` out of the window at `base`."""
    accumulator = layout.accumulator
    pool, pool_f = memory.pool, memory.pool_f
    acc = accumulator.words
    squares = accumulator.squares
    if kind == WindowKind.EXACT:
        row[base + IN_WINDOW] -= 1
    else:
        row[base + IN_WINDOW] -= pool[place + CELL_RECORDS]
    for v in range(layout.values):
        at = base + WINDOW_WORDS + v * acc
        if kind == WindowKind.EXACT:
            x = pool_f[place + 1 + v]
            if not x == x:
                continue
            gone = 1
        else:
            cell = place + CELL_RECORDS + 1 + v * acc
            gone = pool[cell + N]
            if gone == 0:
                continue
        if row[at + N] == gone:
            empty(row, row_f, at, accumulator)
            continue
        row[at + N] -= gone
        largest = abs(row_f[at + LARGEST])
        if kind == WindowKind.EXACT:
            y = x if is_plain(largest) else x * unit(largest)
            add(row_f, at + SUM, -y)
            if squares >= 0:
                add_square(row_f, at + squares, y, -1.0)
            if abs(x) >= largest:
                row_f[at + LARGEST] = -largest
            forget_extremes(row_f, at, x, x, accumulator)
        else:
            take_cell(row_f, at, pool_f, cell, accumulator, -1.0)
            if pool_f[cell + LARGEST] >= largest:
                row_f[at + LARGEST] = -largest
            low = pool_f[cell + accumulator.low] if accumulator.low >= 0 else 0.0
            high = pool_f[cell + accumulator.high] if accumulator.high >= 0 else 0.0
            forget_extremes(row_f, at, low, high, accumulator)


@inner
def set_limits(layout, now, limits):  # pragma: no cover
    """Note for every sliding window the largest cell time that is no longer in it at `now` (a step's number for a stepped one)."""
    windows = layout.windows
    for w in range(windows.size):
        if windows[w].kind == WindowKind.EXACT:
            limits[w] = now - windows[w].length_ms
        elif windows[w].kind == WindowKind.STEPPED:
            limits[w] = now // windows[w].step_ms - windows[w].steps


@inner
def advance(row, row_f, memory, layout, limits):  # pragma: no cover
    """Let go of what is outside; `limits` as `set_limits` notes them."""
    windows, pool = layout.windows, memory.pool
    for g in range(layout.groups.size):
        group = layout.groups[g]
        kind, width, place = group.kind, group.width, group.row
        tail, block = row[place + TAIL], row[place + BLOCK]
        if tail == 0:
            continue
        first_window = group.first_window
        if kind == WindowKind.SESSION:
            # A record may still come within the lateness and join sessions: what it can reach is kept.
            base = windows[first_window].row
            keep = row[NEWEST] - layout.lateness_ms - group.step_ms
            p = row[base + POINTER]
            while p < tail and pool[block + p * width + CELL_END] < keep:
                p += 1
            row[base + POINTER] = p
            continue
        emptied = True
        for w in range(first_window, group.end_window):
            base = windows[w].row
            p, limit = row[base + POINTER], limits[w]
            while p < tail and pool[block + p * width] <= limit:
                _let_go(row, row_f, memory, block + p * width, base, kind, layout)
                p += 1
            row[base + POINTER] = p
            emptied &= p == tail
        if emptied:
            row[place + TAIL] = 0
            for w in range(first_window, group.end_window):
                row[windows[w].row + POINTER] = 0


@inner
def refresh(row, row_f, memory, layout, w, v):  # pragma: no cover
    """Make a sliding window's sums anew from what is in it."""
    accumulator = layout.accumulator
    windows, pool_f = layout.windows, memory.pool_f
    g, base, acc = windows[w].group, windows[w].row, accumulator.words
    group = layout.groups[g]
    place, width, exact = group.row, group.width, group.kind == WindowKind.EXACT
    at, block = base + WINDOW_WORDS + v * acc, row[place + BLOCK]
    shift = 1 + v if exact else CELL_RECORDS + 1 + v * acc
    squares = accumulator.squares
    largest = 0.0
    for p in range(row[base + POINTER], row[place + TAIL]):
        x = pool_f[block + p * width + shift] if exact else pool_f[block + p * width + shift + LARGEST]
        if abs(x) > largest:
            largest = abs(x)
    row_f[at + SUM], row_f[at + SUM_REST], row_f[at + LARGEST] = 0.0, 0.0, largest
    if squares >= 0:
        row_f[at + squares], row_f[at + squares + 1] = 0.0, 0.0
    scale = unit(largest)
    for p in range(row[base + POINTER], row[place + TAIL]):
        cell = block + p * width + shift
        if not exact:
            if memory.pool[cell + N] > 0:
                take_cell(row_f, at, pool_f, cell, accumulator, 1.0)
        elif pool_f[cell] == pool_f[cell]:
            y = pool_f[cell] * scale
            add(row_f, at + SUM, y)
            if squares >= 0:
                add_square(row_f, at + squares, y, 1.0)


@inner
def _restore_sums(row, row_f, memory, layout, g):  # pragma: no cover
    """Before a record enters: make those sums anew that what has left took with it.

    At no other time, so that the bits depend on the entity's records alone, never on when somebody asked.
    """
    accumulator = layout.accumulator
    group = layout.groups[g]
    for w in range(group.first_window, group.end_window):
        for v in range(layout.values):
            at = layout.windows[w].row + WINDOW_WORDS + v * accumulator.words
            if row_f[at + LARGEST] < 0.0 and are_lost(row, row_f, at, accumulator):
                refresh(row, row_f, memory, layout, w, v)


@inner
def _enter_sliding(row, row_f, memory, layout, limits, g, at, values, o):  # pragma: no cover
    accumulator = layout.accumulator
    pool = memory.pool
    group = layout.groups[g]
    kind, width, place = group.kind, group.width, group.row
    time = at if kind == WindowKind.EXACT else at // group.step_ms
    first_window, end_window = group.first_window, group.end_window
    wanted = False
    for w in range(first_window, end_window):
        wanted |= time > limits[w]
    if not wanted:
        return
    _restore_sums(row, row_f, memory, layout, g)
    make_room(row, memory, group, layout.windows)
    block, p = row[place + BLOCK], row[place + TAIL]
    first = first_cell(row, group, layout.windows)
    while p > first and pool[block + (p - 1) * width] > time:
        p -= 1
    new = True
    if kind == WindowKind.STEPPED:
        if p > first and pool[block + (p - 1) * width] == time:
            new = False
            cell = block + (p - 1) * width
        else:
            cell = open_cell(row, memory.pool, group, p)
            pool[cell + CELL_TIME] = time
            fresh_cell(memory, cell, CELL_RECORDS + 1, layout.values, accumulator)
        enter_cell(memory, cell, CELL_RECORDS + 1, group.digest, values, o, accumulator)
    else:
        cell = open_cell(row, memory.pool, group, p)
        pool[cell] = time
        for v in range(layout.values):
            memory.pool_f[cell + 1 + v] = values[o, v]
    for w in range(first_window, end_window):
        base = layout.windows[w].row
        if time <= limits[w]:
            if new:
                row[base + POINTER] += 1
            continue
        row[base + IN_WINDOW] += 1
        for v in range(layout.values):
            if values[o, v] == values[o, v]:
                take_in(row, row_f, base + WINDOW_WORDS + v * accumulator.words, values[o, v], accumulator)


@inner
def enter(row, row_f, memory, layout, limits, at, values, o):  # pragma: no cover
    """Take a record into every window; call `advance` first."""
    accumulator = layout.accumulator
    groups, windows = layout.groups, layout.windows
    for g in range(groups.size):
        if groups[g].kind == WindowKind.SESSION:
            enter_session(row, memory, layout, g, at, values, o)
        else:
            _enter_sliding(row, row_f, memory, layout, limits, g, at, values, o)
    for w in range(windows.size - 1, -1, -1):
        if windows[w].kind != WindowKind.EVERYTHING:
            break
        base = windows[w].row
        row[base + IN_WINDOW] += 1
        for v in range(layout.values):
            if values[o, v] == values[o, v]:
                take_in(row, row_f, base + WINDOW_WORDS + v * accumulator.words, values[o, v], accumulator)


@inner
def extreme(row, row_f, memory, layout, w, v, largest):  # pragma: no cover
    """Return minimum or maximum of a window that is not empty, looked up again after the old one has left."""
    accumulator = layout.accumulator
    windows = layout.windows
    base = windows[w].row
    offset = accumulator.high if largest else accumulator.low
    at = base + WINDOW_WORDS + v * accumulator.words + offset
    best = row_f[at]
    if best == best:
        return best
    g = windows[w].group
    group = layout.groups[g]
    place, width, kind = group.row, group.width, group.kind
    shift = 1 + v if kind == WindowKind.EXACT else CELL_RECORDS + 1 + v * accumulator.words + offset
    best = -np.inf if largest else np.inf
    for p in range(row[base + POINTER], row[place + TAIL]):
        x = memory.pool_f[row[place + BLOCK] + p * width + shift]
        if x == x:
            best = max(best, x) if largest else min(best, x)
    row_f[at] = best
    return best


@inner
def clear_windows(row, row_f, layout):  # pragma: no cover
    """Forget all records; the blocks stay."""
    accumulator = layout.accumulator
    groups, windows = layout.groups, layout.windows
    for g in range(groups.size):
        row[groups[g].row + TAIL] = 0
    for w in range(windows.size):
        base = windows[w].row
        row[base + POINTER] = 0
        row[base + IN_WINDOW] = 0
        for v in range(layout.values):
            empty(row, row_f, base + WINDOW_WORDS + v * accumulator.words, accumulator)
