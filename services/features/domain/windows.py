"""Records inside windows: what enters, what leaves, in one block of cells a group, ordered by event time.

Windows of one step share their cells. A cell of an exact group is one record; of a stepped group, all records of one step; of a session group, one
session. Every window keeps a pointer to its first cell and running accumulators, so a record costs a few additions when it enters and
when it leaves, whatever the window's length. A record out of order goes to its place.
"""

import numpy as np

from services.features.domain.blocks import allocate, free, size_class
from services.features.domain.compiled import inner
from services.features.domain.digest import digest_add, digest_merge
from services.features.domain.layout import (
    BLOCK,
    CELL_DIGEST_CENTROIDS,
    CELL_END,
    CELL_RECORDS,
    CELL_TIME,
    CLASS,
    DIGEST_HEAD,
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
    NEWEST,
    POINTER,
    ROOM,
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
from services.features.domain.sums import add, add_square

_CELL_DIGEST_WORDS = DIGEST_HEAD + 2 * CELL_DIGEST_CENTROIDS


@inner
def _empty(row, words, at, scalars):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Set the accumulator at `at` to nothing."""
    for i in range(at, at + scalars[L_ACC_WORDS]):
        row[i] = 0
    if scalars[L_MIN] >= 0:
        words[at + scalars[L_MIN]] = np.inf
    if scalars[L_MAX] >= 0:
        words[at + scalars[L_MAX]] = -np.inf


@inner
def take_in(row, words, at, x, scalars):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add a value to an accumulator. An extreme that is NaN has to be looked up again, and stays so."""
    row[at + N] += 1
    add(words, at + SUM, x)
    if scalars[L_SQUARES] >= 0:
        add_square(words, at + scalars[L_SQUARES], x, 1.0)
    if scalars[L_MIN] >= 0:
        low = words[at + scalars[L_MIN]]
        if x < low:
            words[at + scalars[L_MIN]] = x
    if scalars[L_MAX] >= 0:
        high = words[at + scalars[L_MAX]]
        if x > high:
            words[at + scalars[L_MAX]] = x


@inner
def _forget_extremes(words, at, low, high, scalars):  # type: ignore[no-untyped-def]  # pragma: no cover
    if scalars[L_MIN] >= 0 and words[at + scalars[L_MIN]] == low:
        words[at + scalars[L_MIN]] = np.nan
    if scalars[L_MAX] >= 0 and words[at + scalars[L_MAX]] == high:
        words[at + scalars[L_MAX]] = np.nan


@inner
def _let_go(row, words, pool, pool_f, place, base, kind, scalars):  # type: ignore[no-untyped-def]  # pragma: no cover
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
            _empty(row, words, at, scalars)
            continue
        row[at + N] -= gone
        if kind == EXACT:
            add(words, at + SUM, -x)
            if squares >= 0:
                add_square(words, at + squares, x, -1.0)
            _forget_extremes(words, at, x, x, scalars)
        else:
            add(words, at + SUM, -pool_f[cell + SUM])
            words[at + SUM_REST] -= pool_f[cell + SUM_REST]
            if squares >= 0:
                add(words, at + squares, -pool_f[cell + squares])
                words[at + squares + 1] -= pool_f[cell + squares + 1]
            low = pool_f[cell + scalars[L_MIN]] if scalars[L_MIN] >= 0 else 0.0
            high = pool_f[cell + scalars[L_MAX]] if scalars[L_MAX] >= 0 else 0.0
            _forget_extremes(words, at, low, high, scalars)


@inner
def set_limits(windows, now, limits):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Note for every sliding window the largest cell time that is no longer in it at `now` (a step's number for a stepped one)."""
    for w in range(windows.shape[0]):
        if windows[w, W_KIND] == EXACT:
            limits[w] = now - windows[w, W_LENGTH]
        elif windows[w, W_KIND] == STEPPED:
            limits[w] = now // windows[w, W_STEP] - windows[w, W_STEPS]


@inner
def advance(row, words, pool, pool_f, groups, windows, scalars, limits):  # type: ignore[no-untyped-def]  # pragma: no cover
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
def first_cell(row, groups, windows, g):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return the first cell that some window of the group still needs."""
    first = row[groups[g, G_ROW] + TAIL]
    for w in range(groups[g, G_FIRST], groups[g, G_FIRST] + groups[g, G_WINDOWS]):
        first = min(first, row[windows[w, W_ROW] + POINTER])
    return first


@inner
def _make_room(row, pool, heads, groups, windows, g):  # type: ignore[no-untyped-def]  # pragma: no cover
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
def _open_cell(row, pool, heads, groups, windows, g, p):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Insert a zeroed cell at index p; returns where it begins. Call `_make_room` first."""
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
def _fresh_cell(pool, pool_f, cell, head, scalars):  # type: ignore[no-untyped-def]  # pragma: no cover
    for v in range(scalars[L_VALUES]):
        _empty(pool, pool_f, cell + head + v * scalars[L_ACC_WORDS], scalars)


@inner
def _enter_cell(pool, pool_f, cell, head, digest, op_value, o, scalars):  # type: ignore[no-untyped-def]  # pragma: no cover
    pool[cell + CELL_RECORDS] += 1
    for v in range(scalars[L_VALUES]):
        if op_value[o, v] == op_value[o, v]:
            take_in(pool, pool_f, cell + head + v * scalars[L_ACC_WORDS], op_value[o, v], scalars)
            if digest >= 0:
                digest_add(pool_f, cell + digest + v * _CELL_DIGEST_WORDS, CELL_DIGEST_CENTROIDS, op_value[o, v], 1.0)


@inner
def _enter_sliding(row, words, pool, pool_f, heads, groups, windows, scalars, limits, g, at, op_value, o):  # type: ignore[no-untyped-def]  # pragma: no cover
    kind, width, place = groups[g, G_KIND], groups[g, G_WIDTH], groups[g, G_ROW]
    time = at if kind == EXACT else at // groups[g, G_STEP]
    first_window, last_window = groups[g, G_FIRST], groups[g, G_FIRST] + groups[g, G_WINDOWS]
    wanted = False
    for w in range(first_window, last_window):
        wanted |= time > limits[w]
    if not wanted:
        return
    _make_room(row, pool, heads, groups, windows, g)
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
            cell = _open_cell(row, pool, heads, groups, windows, g, p)
            pool[cell + CELL_TIME] = time
            _fresh_cell(pool, pool_f, cell, CELL_RECORDS + 1, scalars)
        _enter_cell(pool, pool_f, cell, CELL_RECORDS + 1, groups[g, G_DIGEST], op_value, o, scalars)
    else:
        cell = _open_cell(row, pool, heads, groups, windows, g, p)
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
def _join_cells(row, pool, pool_f, groups, g, left, scalars):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Merge session left + 1 into session left."""
    place, width = groups[g, G_ROW], groups[g, G_WIDTH]
    block, tail = row[place + BLOCK], row[place + TAIL]
    one, two = block + left * width, block + (left + 1) * width
    pool[one + CELL_TIME] = min(pool[one + CELL_TIME], pool[two + CELL_TIME])
    pool[one + CELL_END] = max(pool[one + CELL_END], pool[two + CELL_END])
    pool[one + CELL_RECORDS] += pool[two + CELL_RECORDS]
    for v in range(scalars[L_VALUES]):
        a, b = one + CELL_END + 1 + v * scalars[L_ACC_WORDS], two + CELL_END + 1 + v * scalars[L_ACC_WORDS]
        pool[a + N] += pool[b + N]
        add(pool_f, a + SUM, pool_f[b + SUM])
        pool_f[a + SUM_REST] += pool_f[b + SUM_REST]
        squares = scalars[L_SQUARES]
        if squares >= 0:
            add(pool_f, a + squares, pool_f[b + squares])
            pool_f[a + squares + 1] += pool_f[b + squares + 1]
        if scalars[L_MIN] >= 0:
            pool_f[a + scalars[L_MIN]] = min(pool_f[a + scalars[L_MIN]], pool_f[b + scalars[L_MIN]])
        if scalars[L_MAX] >= 0:
            pool_f[a + scalars[L_MAX]] = max(pool_f[a + scalars[L_MAX]], pool_f[b + scalars[L_MAX]])
        if groups[g, G_DIGEST] >= 0:
            shift = groups[g, G_DIGEST] + v * _CELL_DIGEST_WORDS
            digest_merge(pool_f, one + shift, two + shift, CELL_DIGEST_CENTROIDS)
    for i in range(two, block + (tail - 1) * width):
        pool[i] = pool[i + width]
    row[place + TAIL] = tail - 1


@inner
def _enter_session(row, pool, pool_f, heads, groups, windows, scalars, g, at, op_value, o):  # type: ignore[no-untyped-def]  # pragma: no cover
    place, width, gap = groups[g, G_ROW], groups[g, G_WIDTH], groups[g, G_STEP]
    _make_room(row, pool, heads, groups, windows, g)
    block, first = row[place + BLOCK], first_cell(row, groups, windows, g)
    i = row[place + TAIL] - 1
    while i >= first and at < pool[block + i * width + CELL_TIME] - gap:
        i -= 1
    if i >= first and at <= pool[block + i * width + CELL_END] + gap:
        cell = block + i * width
        pool[cell + CELL_TIME] = min(pool[cell + CELL_TIME], at)
        pool[cell + CELL_END] = max(pool[cell + CELL_END], at)
    else:
        i += 1
        cell = _open_cell(row, pool, heads, groups, windows, g, i)
        pool[cell + CELL_TIME], pool[cell + CELL_END] = at, at
        _fresh_cell(pool, pool_f, cell, CELL_END + 1, scalars)
    _enter_cell(pool, pool_f, cell, CELL_END + 1, groups[g, G_DIGEST], op_value, o, scalars)
    if i + 1 < row[place + TAIL] and pool[cell + width + CELL_TIME] - pool[cell + CELL_END] <= gap:
        _join_cells(row, pool, pool_f, groups, g, i, scalars)
    if i > first and pool[cell + CELL_TIME] - pool[cell - width + CELL_END] <= gap:
        _join_cells(row, pool, pool_f, groups, g, i - 1, scalars)


@inner
def enter(row, words, pool, pool_f, heads, groups, windows, scalars, limits, at, op_value, o):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Take a record into every window; call `advance` first."""
    for g in range(groups.shape[0]):
        if groups[g, G_KIND] == SESSION:
            _enter_session(row, pool, pool_f, heads, groups, windows, scalars, g, at, op_value, o)
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
def open_session(row, words, pool, pool_f, groups, windows, scalars, w, now):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Copy the session that is open at `now` into the window's accumulators, and return where its cell is; -1 and nothing when none is."""
    g, base = windows[w, W_GROUP], windows[w, W_ROW]
    place, width = groups[g, G_ROW], groups[g, G_WIDTH]
    tail = row[place + TAIL]
    cell = row[place + BLOCK] + (tail - 1) * width
    if tail == 0 or now - pool[cell + CELL_END] > groups[g, G_STEP]:
        row[base + IN_WINDOW] = 0
        for v in range(scalars[L_VALUES]):
            _empty(row, words, base + WINDOW_WORDS + v * scalars[L_ACC_WORDS], scalars)
        return -1
    row[base + IN_WINDOW] = pool[cell + CELL_RECORDS]
    for i in range(scalars[L_VALUES] * scalars[L_ACC_WORDS]):
        row[base + WINDOW_WORDS + i] = pool[cell + CELL_END + 1 + i]
    return cell


@inner
def extreme(row, words, pool, pool_f, groups, windows, scalars, w, v, largest):  # type: ignore[no-untyped-def]  # pragma: no cover
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
def clear_windows(row, words, groups, windows, scalars):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Forget all records; the blocks stay."""
    for g in range(groups.shape[0]):
        row[groups[g, G_ROW] + TAIL] = 0
    for w in range(windows.shape[0]):
        base = windows[w, W_ROW]
        row[base + POINTER] = 0
        row[base + IN_WINDOW] = 0
        for v in range(scalars[L_VALUES]):
            _empty(row, words, base + WINDOW_WORDS + v * scalars[L_ACC_WORDS], scalars)
