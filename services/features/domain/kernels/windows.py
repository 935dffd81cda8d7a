"""Records inside windows: what enters, what leaves, in one block of cells a group, ordered by event time.

Windows of one step share their cells. A cell of an exact group is one record; of a stepped group, all records of one step; of a session group, one
session. Every window keeps a pointer to its first cell and running accumulators, so a record costs a few additions when it enters and
when it leaves, whatever the window's length. A record out of order goes to its place.
"""

import numpy as np

from tidemill.services.features.domain.kernels.accumulators import are_lost, empty, forget_extremes, take_cell, take_in
from tidemill.services.features.domain.kernels.cells import enter_cell, first_cell, fresh_cell, make_room, open_cell
from tidemill.services.features.domain.kernels.compiled import inner
from tidemill.services.features.domain.kernels.layout import (
    BLOCK,
    CELL_END,
    CELL_RECORDS,
    CELL_TIME,
    EVERYTHING,
    EXACT,
    G_DIGEST,
    G_FIRST,
    G_KIND,
    G_ROW,
    G_STEP,
    G_WIDTH,
    G_WINDOWS,
    IN_WINDOW,
    L_ACC_WORDS,
    L_LATENESS,
    L_MAX,
    L_MIN,
    L_SQUARES,
    L_VALUES,
    LARGEST,
    NEWEST,
    POINTER,
    SESSION,
    STEPPED,
    SUM,
    SUM_REST,
    TAIL,
    W_GROUP,
    W_KIND,
    W_LENGTH,
    W_ROW,
    W_STEP,
    W_STEPS,
    WINDOW_WORDS,
    N,
)
from tidemill.services.features.domain.kernels.sessions import enter_session
from tidemill.services.features.domain.kernels.sums import add, add_square, is_plain, unit


@inner
def _let_go(row, words, pool, pool_f, place, base, kind, scalars):  # pragma: no cover
    """Take the cell at `place` out of the window at `base`."""
    acc = scalars[L_ACC_WORDS]
    squares = scalars[L_SQUARES]
    if kind == EXACT:
        row[base + IN_WINDOW] -= 1
    else:
        row[base + IN_WINDOW] -= pool[place + CELL_RECORDS]
    for v in range(scalars[L_VALUES]):
        at = base + WINDOW_WORDS + v * acc
        if kind == EXACT:
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
            empty(row, words, at, scalars)
            continue
        row[at + N] -= gone
        largest = abs(words[at + LARGEST])
        if kind == EXACT:
            y = x if is_plain(largest) else x * unit(largest)
            add(words, at + SUM, -y)
            if squares >= 0:
                add_square(words, at + squares, y, -1.0)
            if abs(x) >= largest:
                words[at + LARGEST] = -largest
            forget_extremes(words, at, x, x, scalars)
        else:
            take_cell(words, at, pool_f, cell, scalars, -1.0)
            if pool_f[cell + LARGEST] >= largest:
                words[at + LARGEST] = -largest
            low = pool_f[cell + scalars[L_MIN]] if scalars[L_MIN] >= 0 else 0.0
            high = pool_f[cell + scalars[L_MAX]] if scalars[L_MAX] >= 0 else 0.0
            forget_extremes(words, at, low, high, scalars)


@inner
def set_limits(windows, now, limits):  # pragma: no cover
    """Note for every sliding window the largest cell time that is no longer in it at `now` (a step's number for a stepped one)."""
    for w in range(windows.shape[0]):
        if windows[w, W_KIND] == EXACT:
            limits[w] = now - windows[w, W_LENGTH]
        elif windows[w, W_KIND] == STEPPED:
            limits[w] = now // windows[w, W_STEP] - windows[w, W_STEPS]


@inner
def advance(row, words, pool, pool_f, groups, windows, scalars, limits):  # pragma: no cover
    """Let go of what is outside; `limits` as `set_limits` notes them."""
    for g in range(groups.shape[0]):
        kind, width, place = groups[g, G_KIND], groups[g, G_WIDTH], groups[g, G_ROW]
        tail, block = row[place + TAIL], row[place + BLOCK]
        if tail == 0:
            continue
        first_window = groups[g, G_FIRST]
        if kind == SESSION:
            # A record may still come within the lateness and join sessions: what it can reach is kept.
            base = windows[first_window, W_ROW]
            keep = row[NEWEST] - scalars[L_LATENESS] - groups[g, G_STEP]
            p = row[base + POINTER]
            while p < tail and pool[block + p * width + CELL_END] < keep:
                p += 1
            row[base + POINTER] = p
            continue
        emptied = True
        for w in range(first_window, first_window + groups[g, G_WINDOWS]):
            base = windows[w, W_ROW]
            p, limit = row[base + POINTER], limits[w]
            while p < tail and pool[block + p * width] <= limit:
                _let_go(row, words, pool, pool_f, block + p * width, base, kind, scalars)
                p += 1
            row[base + POINTER] = p
            emptied &= p == tail
        if emptied:
            row[place + TAIL] = 0
            for w in range(first_window, first_window + groups[g, G_WINDOWS]):
                row[windows[w, W_ROW] + POINTER] = 0


@inner
def refresh(row, words, pool, pool_f, groups, windows, scalars, w, v):  # pragma: no cover
    """Make a sliding window's sums anew from what is in it."""
    g, base, acc = windows[w, W_GROUP], windows[w, W_ROW], scalars[L_ACC_WORDS]
    place, width, exact = groups[g, G_ROW], groups[g, G_WIDTH], groups[g, G_KIND] == EXACT
    at, block = base + WINDOW_WORDS + v * acc, row[place + BLOCK]
    shift = 1 + v if exact else CELL_RECORDS + 1 + v * acc
    squares = scalars[L_SQUARES]
    largest = 0.0
    for p in range(row[base + POINTER], row[place + TAIL]):
        x = pool_f[block + p * width + shift] if exact else pool_f[block + p * width + shift + LARGEST]
        if abs(x) > largest:
            largest = abs(x)
    words[at + SUM], words[at + SUM_REST], words[at + LARGEST] = 0.0, 0.0, largest
    if squares >= 0:
        words[at + squares], words[at + squares + 1] = 0.0, 0.0
    scale = unit(largest)
    for p in range(row[base + POINTER], row[place + TAIL]):
        cell = block + p * width + shift
        if not exact:
            if pool[cell + N] > 0:
                take_cell(words, at, pool_f, cell, scalars, 1.0)
        elif pool_f[cell] == pool_f[cell]:
            y = pool_f[cell] * scale
            add(words, at + SUM, y)
            if squares >= 0:
                add_square(words, at + squares, y, 1.0)


@inner
def _restore_sums(row, words, pool, pool_f, groups, windows, scalars, g):  # pragma: no cover
    """Before a record enters: make those sums anew that what has left took with it.

    At no other time, so that the bits depend on the entity's records alone, never on when somebody asked.
    """
    for w in range(groups[g, G_FIRST], groups[g, G_FIRST] + groups[g, G_WINDOWS]):
        for v in range(scalars[L_VALUES]):
            at = windows[w, W_ROW] + WINDOW_WORDS + v * scalars[L_ACC_WORDS]
            if words[at + LARGEST] < 0.0 and are_lost(row, words, at, scalars):
                refresh(row, words, pool, pool_f, groups, windows, scalars, w, v)


@inner
def _enter_sliding(row, words, pool, pool_f, heads, groups, windows, scalars, limits, g, at, op_value, o):  # pragma: no cover
    kind, width, place = groups[g, G_KIND], groups[g, G_WIDTH], groups[g, G_ROW]
    time = at if kind == EXACT else at // groups[g, G_STEP]
    first_window, last_window = groups[g, G_FIRST], groups[g, G_FIRST] + groups[g, G_WINDOWS]
    wanted = False
    for w in range(first_window, last_window):
        wanted |= time > limits[w]
    if not wanted:
        return
    _restore_sums(row, words, pool, pool_f, groups, windows, scalars, g)
    make_room(row, pool, heads, groups, windows, g)
    block, p = row[place + BLOCK], row[place + TAIL]
    first = first_cell(row, groups, windows, g)
    while p > first and pool[block + (p - 1) * width] > time:
        p -= 1
    new = True
    if kind == STEPPED:
        if p > first and pool[block + (p - 1) * width] == time:
            new = False
            cell = block + (p - 1) * width
        else:
            cell = open_cell(row, pool, heads, groups, windows, g, p)
            pool[cell + CELL_TIME] = time
            fresh_cell(pool, pool_f, cell, CELL_RECORDS + 1, scalars)
        enter_cell(pool, pool_f, cell, CELL_RECORDS + 1, groups[g, G_DIGEST], op_value, o, scalars)
    else:
        cell = open_cell(row, pool, heads, groups, windows, g, p)
        pool[cell] = time
        for v in range(scalars[L_VALUES]):
            pool_f[cell + 1 + v] = op_value[o, v]
    for w in range(first_window, last_window):
        base = windows[w, W_ROW]
        if time <= limits[w]:
            if new:
                row[base + POINTER] += 1
            continue
        row[base + IN_WINDOW] += 1
        for v in range(scalars[L_VALUES]):
            if op_value[o, v] == op_value[o, v]:
                take_in(row, words, base + WINDOW_WORDS + v * scalars[L_ACC_WORDS], op_value[o, v], scalars)


@inner
def enter(row, words, pool, pool_f, heads, groups, windows, scalars, limits, at, op_value, o):  # pragma: no cover
    """Take a record into every window; call `advance` first."""
    for g in range(groups.shape[0]):
        if groups[g, G_KIND] == SESSION:
            enter_session(row, pool, pool_f, heads, groups, windows, scalars, g, at, op_value, o)
        else:
            _enter_sliding(row, words, pool, pool_f, heads, groups, windows, scalars, limits, g, at, op_value, o)
    for w in range(windows.shape[0] - 1, -1, -1):
        if windows[w, W_KIND] != EVERYTHING:
            break
        base = windows[w, W_ROW]
        row[base + IN_WINDOW] += 1
        for v in range(scalars[L_VALUES]):
            if op_value[o, v] == op_value[o, v]:
                take_in(row, words, base + WINDOW_WORDS + v * scalars[L_ACC_WORDS], op_value[o, v], scalars)


@inner
def extreme(row, words, pool, pool_f, groups, windows, scalars, w, v, largest):  # pragma: no cover
    """Return minimum or maximum of a window that is not empty, looked up again after the old one has left."""
    base = windows[w, W_ROW]
    offset = scalars[L_MAX] if largest else scalars[L_MIN]
    at = base + WINDOW_WORDS + v * scalars[L_ACC_WORDS] + offset
    found = words[at]
    if found == found:
        return found
    g = windows[w, W_GROUP]
    place, width, kind = groups[g, G_ROW], groups[g, G_WIDTH], groups[g, G_KIND]
    shift = 1 + v if kind == EXACT else CELL_RECORDS + 1 + v * scalars[L_ACC_WORDS] + offset
    found = -np.inf if largest else np.inf
    for p in range(row[base + POINTER], row[place + TAIL]):
        x = pool_f[row[place + BLOCK] + p * width + shift]
        if x == x:
            found = max(found, x) if largest else min(found, x)
    words[at] = found
    return found


@inner
def clear_windows(row, words, groups, windows, scalars):  # pragma: no cover
    """Forget all records; the blocks stay."""
    for g in range(groups.shape[0]):
        row[groups[g, G_ROW] + TAIL] = 0
    for w in range(windows.shape[0]):
        base = windows[w, W_ROW]
        row[base + POINTER] = 0
        row[base + IN_WINDOW] = 0
        for v in range(scalars[L_VALUES]):
            empty(row, words, base + WINDOW_WORDS + v * scalars[L_ACC_WORDS], scalars)
