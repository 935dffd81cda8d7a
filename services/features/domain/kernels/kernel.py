"""The fold of one view over one batch, event by event, in compiled code.

Every number a view serves is a function of the entity's records in journal order, computed with the same floating-point operations in the
same order whatever the batching: records leave windows only when a record or a request of that entity is met, oldest first, so neither
batch borders nor restarts can be seen in the bits. *Now* is the journal time of the operation: it never runs backwards.
"""

import numpy as np

from tidemill.services.features.domain.kernels.answers import answer_after, answer_before
from tidemill.services.features.domain.kernels.blocks import allocate, free, size_class
from tidemill.services.features.domain.kernels.compiled import counting_nothing, entry, inner
from tidemill.services.features.domain.kernels.digest import digest_add
from tidemill.services.features.domain.kernels.distinct import see
from tidemill.services.features.domain.kernels.windows import advance, clear_windows, enter, set_limits
from tidemill.services.features.domain.kernels.words import (
    BLOCK,
    CLASS,
    DECAY_SUM,
    DECAY_TIME,
    DECAY_UNIT,
    DECAY_WEIGHT,
    DIGEST_CENTROIDS,
    DIGEST_WORDS,
    DISTINCT_BLOCK,
    DISTINCT_CLASS,
    DISTINCT_WORDS,
    INCLUDED,
    NEVER,
    NEWEST,
    OLDEST,
    RECORDS,
    USED,
)


@inner
def _free_sketches(row, memory, layout):  # pragma: no cover
    distincts = layout.distincts
    for m in range(distincts.size):
        at = distincts[m].row
        if row[at + DISTINCT_CLASS] > 0:
            free(memory, row[at + DISTINCT_BLOCK], row[at + DISTINCT_CLASS])
        for i in range(DISTINCT_WORDS):
            row[at + i] = 0
    if layout.digest_row >= 0:
        for v in range(layout.values):
            at = layout.digest_row + v
            if row[at] != 0:
                free(memory, row[at], size_class(DIGEST_WORDS))
            row[at] = 0


@inner
def clear(row, row_f, memory, layout):  # pragma: no cover
    """Make a row one of an entity that nothing is known of; what was included stays."""
    decays = layout.decays
    if row[USED] == 0:
        row[INCLUDED] = -1
        row[USED] = 1
    row[NEWEST], row[OLDEST], row[RECORDS] = NEVER, NEVER, 0
    clear_windows(row, row_f, layout)
    if layout.first_row >= 0:
        for v in range(layout.values):
            row[layout.first_row + 2 * v] = NEVER
            row_f[layout.first_row + 2 * v + 1] = np.nan
    for i in range(layout.values * layout.lags):
        row[layout.lag_row + 2 * i] = NEVER
        row_f[layout.lag_row + 2 * i + 1] = np.nan
    for d in range(decays.size):
        at = decays[d].row
        row_f[at + DECAY_SUM], row_f[at + DECAY_WEIGHT], row[at + DECAY_TIME] = 0.0, 0.0, NEVER
    _free_sketches(row, memory, layout)


@entry
def release(slot, rows, memory, layout):  # pragma: no cover
    """Give an entity's memory back."""
    groups = layout.groups
    row = rows.words[slot]
    for g in range(groups.size):
        place = groups[g].row
        if row[place + CLASS] > 0:
            free(memory, row[place + BLOCK], row[place + CLASS])
    _free_sketches(row, memory, layout)
    row[:] = 0


@inner
def _remember(row, row_f, layout, v, at, x):  # pragma: no cover
    """Keep first and last values by event time; of equal times the one journalled earlier is first, the one journalled later is last."""
    if layout.first_row >= 0:
        place = layout.first_row + 2 * v
        if row[place] == NEVER or at < row[place]:
            row[place] = at
            row_f[place + 1] = x
    lags = layout.lags
    if lags > 0:
        base = layout.lag_row + 2 * lags * v
        i = 0
        while i < lags and row[base + 2 * i] > at:
            i += 1
        if i < lags:
            for j in range(lags - 1, i, -1):
                row[base + 2 * j] = row[base + 2 * j - 2]
                row_f[base + 2 * j + 1] = row_f[base + 2 * j - 1]
            row[base + 2 * i] = at
            row_f[base + 2 * i + 1] = x


@inner
def _decay(row, row_f, at, when, x, half_life, in_events):  # pragma: no cover
    weight = row_f[at + DECAY_WEIGHT]
    if in_events:
        keep = 0.5 ** (1.0 / half_life)
        row_f[at + DECAY_SUM] = row_f[at + DECAY_SUM] * keep + x
        row_f[at + DECAY_WEIGHT] = weight * keep + 1.0
        return
    time = row[at + DECAY_TIME]
    if time == NEVER:
        row_f[at + DECAY_SUM], row_f[at + DECAY_WEIGHT], row[at + DECAY_TIME] = x, 1.0, when
    elif when >= time:
        keep = 0.5 ** ((when - time) / half_life)
        row_f[at + DECAY_SUM] = row_f[at + DECAY_SUM] * keep + x
        row_f[at + DECAY_WEIGHT] = weight * keep + 1.0
        row[at + DECAY_TIME] = when
    else:
        share = 0.5 ** ((time - when) / half_life)
        row_f[at + DECAY_SUM] += x * share
        row_f[at + DECAY_WEIGHT] += share


@inner
def _update(row, row_f, memory, layout, now, limits, operations, o):  # pragma: no cover
    decays, distincts = layout.decays, layout.distincts
    at = operations.at[o]
    row[RECORDS] += 1
    row[NEWEST] = max(row[NEWEST], at)
    row[OLDEST] = at if row[OLDEST] == NEVER else min(row[OLDEST], at)
    enter(row, row_f, memory, layout, limits, at, operations.value, o)
    for v in range(layout.values):
        x = operations.value[o, v]
        if x == x:
            _remember(row, row_f, layout, v, at, x)
            if layout.digest_row >= 0:
                place = layout.digest_row + v
                if row[place] == 0:
                    row[place] = allocate(memory, size_class(DIGEST_WORDS))
                digest_add(memory.pool_f, row[place], DIGEST_CENTROIDS, x, 1.0)
    for d in range(decays.size):
        value = decays[d].value
        x = 1.0 if value < 0 else operations.value[o, value]
        if x == x:
            _decay(row, row_f, decays[d].row, at, x * DECAY_UNIT, decays[d].half_life, decays[d].in_events)
    for m in range(distincts.size):
        if operations.hash[o, m] != 0:
            see(memory, row, distincts[m].row, distincts[m].bound_ms, now, operations.hash[o, m], at)


@counting_nothing
def fold_view(operations, rows, memory, layout, changes, queued, out, limits):  # pragma: no cover
    """Apply updates and answer requests in order; returns the new length of the queue of changes.

    Parameters
    ----------
    operations : Operations
    rows : Rows
    memory : Memory
    layout : StateLayout
    changes : Changes
    queued : int
        Length of the queue of changes.
    out : float64 (aggregates, answers)
        Filled with the answers; NaN is missing.
    limits : int64 (windows,)
        Scratch.
    """
    aggregates = layout.aggregates
    compares = False
    for a in range(aggregates.size):
        compares |= aggregates[a].compares
    now = NEVER
    for o in range(operations.slot.size):
        slot = operations.slot[o]
        if slot < 0:
            continue
        row, row_f = rows.words[slot], rows.floats[slot]
        if operations.now[o] != now:
            now = operations.now[o]
            set_limits(layout, now, limits)
        if row[USED] == 0 or (layout.ttl_ms > 0 and row[NEWEST] != NEVER and now - row[NEWEST] > layout.ttl_ms):
            clear(row, row_f, memory, layout)
        advance(row, row_f, memory, layout, limits)
        asked = operations.row[o]
        if asked >= 0 and compares:
            answer_before(row, row_f, memory, layout, now, operations.value, o, out, asked)
        if operations.update[o] and operations.offset[o] > row[INCLUDED]:
            row[INCLUDED] = operations.offset[o]
            if changes.dirty[slot] < 0:
                changes.dirty[slot] = operations.offset[o]
                changes.queue[queued] = slot
                queued += 1
            _update(row, row_f, memory, layout, now, limits, operations, o)
        if asked >= 0:
            answer_after(row, row_f, memory, layout, now, limits, out, asked)
    return queued
