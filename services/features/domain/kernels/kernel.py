"""The fold of one view over one batch, event by event, in compiled code.

Every number a view serves is a function of the entity's records in journal order, computed with the same floating-point operations in the
same order whatever the batching: records leave windows only when a record or a request of that entity is met, oldest first, so neither
batch borders nor restarts can be seen in the bits. *Now* is the journal time of the operation: it never runs backwards.
"""

import numpy as np

from tidemill.services.features.domain.kernels.answers import answer_after, answer_before
from tidemill.services.features.domain.kernels.blocks import allocate, free, size_class
from tidemill.services.features.domain.kernels.compiled import entry, inner
from tidemill.services.features.domain.kernels.digest import digest_add
from tidemill.services.features.domain.kernels.distinct import see
from tidemill.services.features.domain.kernels.layout import (
    A_KIND,
    BLOCK,
    CLASS,
    D_EVENTS,
    D_ROW,
    D_VALUE,
    DECAY_SUM,
    DECAY_TIME,
    DECAY_UNIT,
    DECAY_WEIGHT,
    DIFFERENCE,
    DIGEST_CENTROIDS,
    DIGEST_HEAD,
    DISTINCT_BLOCK,
    DISTINCT_CLASS,
    DISTINCT_WORDS,
    FIRST,
    G_ROW,
    INCLUDED,
    L_DIGEST_ROW,
    L_FIRST_ROW,
    L_LAG_ROW,
    L_LAGS,
    L_TTL,
    L_VALUES,
    M_BOUND,
    M_ROW,
    NEVER,
    NEWEST,
    OLDEST,
    RECORDS,
    TIME_SINCE_LAST,
    USED,
)
from tidemill.services.features.domain.kernels.windows import advance, clear_windows, enter, set_limits

_DIGEST_WORDS = DIGEST_HEAD + 2 * DIGEST_CENTROIDS


@inner
def _free_sketches(row, pool, heads, scalars, distincts):  # pragma: no cover
    for m in range(distincts.shape[0]):
        at = distincts[m, M_ROW]
        if row[at + DISTINCT_CLASS] > 0:
            free(pool, heads, row[at + DISTINCT_BLOCK], row[at + DISTINCT_CLASS])
        for i in range(DISTINCT_WORDS):
            row[at + i] = 0
    if scalars[L_DIGEST_ROW] >= 0:
        for v in range(scalars[L_VALUES]):
            at = scalars[L_DIGEST_ROW] + v
            if row[at] != 0:
                free(pool, heads, row[at], size_class(_DIGEST_WORDS))
            row[at] = 0


@inner
def clear(row, words, pool, heads, scalars, groups, windows, decays, distincts):  # pragma: no cover
    """Make a row one of an entity that nothing is known of; what was included stays."""
    if row[USED] == 0:
        row[INCLUDED] = -1
        row[USED] = 1
    row[NEWEST], row[OLDEST], row[RECORDS] = NEVER, NEVER, 0
    clear_windows(row, words, groups, windows, scalars)
    if scalars[L_FIRST_ROW] >= 0:
        for v in range(scalars[L_VALUES]):
            row[scalars[L_FIRST_ROW] + 2 * v] = NEVER
            words[scalars[L_FIRST_ROW] + 2 * v + 1] = np.nan
    for i in range(scalars[L_VALUES] * scalars[L_LAGS]):
        row[scalars[L_LAG_ROW] + 2 * i] = NEVER
        words[scalars[L_LAG_ROW] + 2 * i + 1] = np.nan
    for d in range(decays.shape[0]):
        at = decays[d, D_ROW]
        words[at + DECAY_SUM], words[at + DECAY_WEIGHT], row[at + DECAY_TIME] = 0.0, 0.0, NEVER
    _free_sketches(row, pool, heads, scalars, distincts)


@entry
def release(row, pool, heads, scalars, groups, distincts):  # pragma: no cover
    """Give an entity's memory back."""
    for g in range(groups.shape[0]):
        place = groups[g, G_ROW]
        if row[place + CLASS] > 0:
            free(pool, heads, row[place + BLOCK], row[place + CLASS])
    _free_sketches(row, pool, heads, scalars, distincts)
    row[:] = 0


@inner
def _remember(row, words, scalars, v, at, x):  # pragma: no cover
    """Keep first and last values by event time; of equal times the one journalled earlier is first, the one journalled later is last."""
    if scalars[L_FIRST_ROW] >= 0:
        place = scalars[L_FIRST_ROW] + 2 * v
        if row[place] == NEVER or at < row[place]:
            row[place] = at
            words[place + 1] = x
    lags = scalars[L_LAGS]
    if lags > 0:
        base = scalars[L_LAG_ROW] + 2 * lags * v
        i = 0
        while i < lags and row[base + 2 * i] > at:
            i += 1
        if i < lags:
            for j in range(lags - 1, i, -1):
                row[base + 2 * j] = row[base + 2 * j - 2]
                words[base + 2 * j + 1] = words[base + 2 * j - 1]
            row[base + 2 * i] = at
            words[base + 2 * i + 1] = x


@inner
def _decay(row, words, at, when, x, half_life, in_events):  # pragma: no cover
    weight = words[at + DECAY_WEIGHT]
    if in_events:
        keep = 0.5 ** (1.0 / half_life)
        words[at + DECAY_SUM] = words[at + DECAY_SUM] * keep + x
        words[at + DECAY_WEIGHT] = weight * keep + 1.0
        return
    time = row[at + DECAY_TIME]
    if time == NEVER:
        words[at + DECAY_SUM], words[at + DECAY_WEIGHT], row[at + DECAY_TIME] = x, 1.0, when
    elif when >= time:
        keep = 0.5 ** ((when - time) / half_life)
        words[at + DECAY_SUM] = words[at + DECAY_SUM] * keep + x
        words[at + DECAY_WEIGHT] = weight * keep + 1.0
        row[at + DECAY_TIME] = when
    else:
        share = 0.5 ** ((time - when) / half_life)
        words[at + DECAY_SUM] += x * share
        words[at + DECAY_WEIGHT] += share


@inner
def _update(  # pragma: no cover
    row, words, pool, pool_f, heads, scalars, groups, windows, decays, distincts, half_lives, now, limits, at, op_value, op_hash, o
):  # fmt: skip
    row[RECORDS] += 1
    row[NEWEST] = max(row[NEWEST], at)
    row[OLDEST] = at if row[OLDEST] == NEVER else min(row[OLDEST], at)
    enter(row, words, pool, pool_f, heads, groups, windows, scalars, limits, at, op_value, o)
    for v in range(scalars[L_VALUES]):
        x = op_value[o, v]
        if x == x:
            _remember(row, words, scalars, v, at, x)
            if scalars[L_DIGEST_ROW] >= 0:
                place = scalars[L_DIGEST_ROW] + v
                if row[place] == 0:
                    row[place] = allocate(pool, heads, size_class(_DIGEST_WORDS))
                digest_add(pool_f, row[place], DIGEST_CENTROIDS, x, 1.0)
    for d in range(decays.shape[0]):
        value = decays[d, D_VALUE]
        x = 1.0 if value < 0 else op_value[o, value]
        if x == x:
            _decay(row, words, decays[d, D_ROW], at, x * DECAY_UNIT, half_lives[d], decays[d, D_EVENTS] == 1)
    for m in range(distincts.shape[0]):
        if op_hash[o, m] != 0:
            see(pool, heads, row, distincts[m, M_ROW], distincts[m, M_BOUND], now, op_hash[o, m], at)


@inner
def _fold(  # noqa: PLR0913, RUF100  # pragma: no cover
    op_slot, op_now, op_at, op_offset, op_update, op_row, op_value, op_hash,
    rows, rows_f, pool, pool_f, heads,
    scalars, groups, windows, aggregates, decays, distincts, half_lives, arguments,
    dirty, queue, queued, out, limits,
):  # fmt: skip
    compares = False
    for a in range(aggregates.shape[0]):
        kind = aggregates[a, A_KIND]
        compares |= (kind >= FIRST and kind <= TIME_SINCE_LAST) or (kind >= DIFFERENCE and kind < FIRST)
    ttl = scalars[L_TTL]
    now = NEVER
    for i in range(op_slot.size):
        slot = op_slot[i]
        if slot < 0:
            continue
        row, words = rows[slot], rows_f[slot]
        if op_now[i] != now:
            now = op_now[i]
            set_limits(windows, now, limits)
        if row[USED] == 0:
            clear(row, words, pool, heads, scalars, groups, windows, decays, distincts)
        elif ttl > 0 and row[NEWEST] != NEVER and now - row[NEWEST] > ttl:
            clear(row, words, pool, heads, scalars, groups, windows, decays, distincts)
        advance(row, words, pool, pool_f, groups, windows, scalars, limits)
        asked = op_row[i]
        if asked >= 0 and compares:
            answer_before(row, words, pool, pool_f, scalars, groups, windows, aggregates, now, op_value, i, out, asked)
        if op_update[i] and op_offset[i] > row[INCLUDED]:
            row[INCLUDED] = op_offset[i]
            if dirty[slot] < 0:
                dirty[slot] = op_offset[i]
                queue[queued] = slot
                queued += 1
            _update(
                row, words, pool, pool_f, heads, scalars, groups, windows, decays, distincts, half_lives, now, limits, op_at[i], op_value, op_hash, i
            )
        if asked >= 0:
            answer_after(
                row, words, pool, pool_f, scalars, groups, windows, aggregates, decays, distincts, half_lives, arguments, now, limits, out, asked
            )
    return queued


@entry
def fold_view(  # noqa: PLR0913, RUF100  # pragma: no cover
    op_slot, op_now, op_at, op_offset, op_update, op_row, op_value, op_hash,
    rows, rows_f, pool, pool_f, heads,
    scalars, groups, windows, aggregates, decays, distincts, half_lives, arguments,
    dirty, queue, queued, out,
):  # fmt: skip
    """Apply updates and answer requests in order; returns the new length of the dirty queue.

    Parameters
    ----------
    op_slot, op_now, op_at, op_offset, op_update, op_row : shape (m,)
        The operations: entity slot (-1: the record names no entity), journal time, the time at which the record stands in windows, journal
        offset, whether the row updates, the row of `out` it asks for (-1: none).
    op_value : float64 (m, values), NaN for null
    op_hash : int64 (m, distincts), 0 for null
    rows, pool
        State, as words; `rows_f` and `pool_f` are the same memory as floats.
    dirty : int64 (slots,)
        Journal offset of an entity's oldest change that no checkpoint holds, -1 when all is written.
    queue
        Slots in order of that offset.
    out : float64 (aggregates, rows)
        Answers; NaN is missing.
    """
    return _fold(
        op_slot, op_now, op_at, op_offset, op_update, op_row, op_value, op_hash,
        rows, rows_f, pool, pool_f, heads,
        scalars, groups, windows, aggregates, decays, distincts, half_lives, arguments,
        dirty, queue, queued, out, np.zeros(windows.shape[0], np.int64),
    )  # fmt: skip
