"""Sessions: records with no gap longer than the window's between them. A late record may open, lengthen or join sessions."""

from tidemill.services.features.domain.kernels.accumulators import change_unit, empty, take_cell
from tidemill.services.features.domain.kernels.cells import enter_cell, first_cell, fresh_cell, make_room, open_cell
from tidemill.services.features.domain.kernels.compiled import inner
from tidemill.services.features.domain.kernels.digest import digest_merge
from tidemill.services.features.domain.kernels.layout import (
    BLOCK,
    CELL_DIGEST_CENTROIDS,
    CELL_END,
    CELL_RECORDS,
    CELL_TIME,
    DIGEST_HEAD,
    G_DIGEST,
    G_ROW,
    G_STEP,
    G_WIDTH,
    IN_WINDOW,
    L_ACC_WORDS,
    L_MAX,
    L_MIN,
    L_VALUES,
    LARGEST,
    TAIL,
    W_GROUP,
    W_ROW,
    WINDOW_WORDS,
    N,
)
from tidemill.services.features.domain.kernels.sums import unit

_CELL_DIGEST_WORDS = DIGEST_HEAD + 2 * CELL_DIGEST_CENTROIDS


@inner
def _join_cells(row, pool, pool_f, groups, g, left, scalars):  # pragma: no cover
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
        if pool_f[b + LARGEST] > pool_f[a + LARGEST]:
            change_unit(pool_f, a, unit(pool_f[a + LARGEST]), unit(pool_f[b + LARGEST]), scalars)
            pool_f[a + LARGEST] = pool_f[b + LARGEST]
        take_cell(pool_f, a, pool_f, b, scalars, 1.0)
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
def enter_session(row, pool, pool_f, heads, groups, windows, scalars, g, at, op_value, o):  # pragma: no cover
    """Take a record into the session it belongs to, and join the neighbours it connects."""
    place, width, gap = groups[g, G_ROW], groups[g, G_WIDTH], groups[g, G_STEP]
    make_room(row, pool, heads, groups, windows, g)
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
        cell = open_cell(row, pool, heads, groups, windows, g, i)
        pool[cell + CELL_TIME], pool[cell + CELL_END] = at, at
        fresh_cell(pool, pool_f, cell, CELL_END + 1, scalars)
    enter_cell(pool, pool_f, cell, CELL_END + 1, groups[g, G_DIGEST], op_value, o, scalars)
    if i + 1 < row[place + TAIL] and pool[cell + width + CELL_TIME] - pool[cell + CELL_END] <= gap:
        _join_cells(row, pool, pool_f, groups, g, i, scalars)
    if i > first and pool[cell + CELL_TIME] - pool[cell - width + CELL_END] <= gap:
        _join_cells(row, pool, pool_f, groups, g, i - 1, scalars)


@inner
def open_session(row, words, pool, pool_f, groups, windows, scalars, w, now):  # pragma: no cover
    """Copy the session that is open at `now` into the window's accumulators, and return where its cell is; -1 and nothing when none is."""
    g, base = windows[w, W_GROUP], windows[w, W_ROW]
    place, width = groups[g, G_ROW], groups[g, G_WIDTH]
    tail = row[place + TAIL]
    cell = row[place + BLOCK] + (tail - 1) * width
    if tail == 0 or now - pool[cell + CELL_END] > groups[g, G_STEP]:
        row[base + IN_WINDOW] = 0
        for v in range(scalars[L_VALUES]):
            empty(row, words, base + WINDOW_WORDS + v * scalars[L_ACC_WORDS], scalars)
        return -1
    row[base + IN_WINDOW] = pool[cell + CELL_RECORDS]
    for i in range(scalars[L_VALUES] * scalars[L_ACC_WORDS]):
        row[base + WINDOW_WORDS + i] = pool[cell + CELL_END + 1 + i]
    return cell
