"""What a request is told, from the state of its entity."""

import math

import numpy as np

from services.features.domain.compiled import allocating, inner
from services.features.domain.digest import digest_quantile
from services.features.domain.distinct import count_since
from services.features.domain.layout import (
    A_AT,
    A_EXTRA,
    A_KIND,
    A_VALUE,
    A_WINDOW,
    BLOCK,
    CELL_DIGEST_CENTROIDS,
    CELL_TIME,
    COUNT,
    D_EVENTS,
    D_ROW,
    DECAY_SUM,
    DECAY_TIME,
    DECAY_WEIGHT,
    DECAYED_COUNT,
    DECAYED_MEAN,
    DECAYED_SUM,
    DIFFERENCE,
    DIGEST_HEAD,
    DISTINCT,
    EVERYTHING,
    EXACT,
    FIRST,
    G_DIGEST,
    G_ROW,
    G_WIDTH,
    IN_WINDOW,
    L_ACC_WORDS,
    L_DIGEST_ROW,
    L_FIRST_ROW,
    L_LAG_ROW,
    L_LAGS,
    L_SQUARES,
    LAG,
    LAST,
    M_ROW,
    MAX,
    MEAN,
    NEVER,
    NEWEST,
    OLDEST,
    POINTER,
    QUANTILE,
    RATE,
    SESSION,
    STD,
    STEPPED,
    SUM,
    SUM_REST,
    TAIL,
    TIME_SINCE_FIRST,
    TIME_SINCE_LAST,
    TOTAL,
    VARIANCE,
    W_GROUP,
    W_KIND,
    W_LENGTH,
    W_ROW,
    W_STEP,
    WINDOW_WORDS,
    ZSCORE,
    N,
)
from services.features.domain.layout import MIN as LEAST
from services.features.domain.sessions import open_session
from services.features.domain.sums import variance
from services.features.domain.windows import extreme

_CELL_DIGEST_WORDS = DIGEST_HEAD + 2 * CELL_DIGEST_CENTROIDS


@inner
def _spread(row, words, at, scalars):  # type: ignore[no-untyped-def]  # pragma: no cover
    squares = at + scalars[L_SQUARES]
    return variance(row[at + N], words[at + SUM], words[at + SUM_REST], words[squares], words[squares + 1], words[squares + 2])


@inner
def answer_before(row, words, pool, pool_f, scalars, groups, windows, aggregates, now, op_value, o, out, asked):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Answer what compares with the past: the asking event itself has not entered yet."""
    for a in range(aggregates.shape[0]):
        kind, v = aggregates[a, A_KIND], aggregates[a, A_VALUE]
        answer = np.nan
        if kind == FIRST:
            answer = words[scalars[L_FIRST_ROW] + 2 * v + 1]
        elif kind == LAST:
            answer = words[scalars[L_LAG_ROW] + 2 * scalars[L_LAGS] * v + 1]
        elif kind == LAG:
            answer = words[scalars[L_LAG_ROW] + 2 * (scalars[L_LAGS] * v + aggregates[a, A_EXTRA]) - 1]
        elif kind == TIME_SINCE_LAST:
            if row[NEWEST] != NEVER:
                answer = (now - row[NEWEST]) / 1000.0
        elif kind == TIME_SINCE_FIRST:
            if row[OLDEST] != NEVER:
                answer = (now - row[OLDEST]) / 1000.0
        elif kind == DIFFERENCE or kind == ZSCORE:
            w = aggregates[a, A_WINDOW]
            if windows[w, W_KIND] == SESSION:
                open_session(row, words, pool, pool_f, groups, windows, scalars, w, now)
            at = windows[w, W_ROW] + WINDOW_WORDS + v * scalars[L_ACC_WORDS]
            n = row[at + N]
            if n > 0:
                answer = op_value[o, v] - (words[at + SUM] + words[at + SUM_REST]) / n
                if kind == ZSCORE:
                    spread = math.sqrt(_spread(row, words, at, scalars))
                    answer = answer / spread if spread > 0.0 else np.nan
        else:
            continue
        out[a, asked] = answer


@allocating
def _quantile(row, pool_f, scalars, groups, windows, w, v, cell, q):  # type: ignore[no-untyped-def]  # pragma: no cover
    kind = windows[w, W_KIND]
    if kind == EVERYTHING:
        at = row[scalars[L_DIGEST_ROW] + v]
        if at == 0:
            return np.nan
        used = int(pool_f[at])
        means, weights = np.empty(used), np.empty(used)
        for i in range(used):
            means[i], weights[i] = pool_f[at + DIGEST_HEAD + 2 * i], pool_f[at + DIGEST_HEAD + 2 * i + 1]
        return digest_quantile(means, weights, pool_f[at + 2], pool_f[at + 3], q)
    g = windows[w, W_GROUP]
    place, width = groups[g, G_ROW], groups[g, G_WIDTH]
    first, tail, block = row[windows[w, W_ROW] + POINTER], row[place + TAIL], row[place + BLOCK]
    if kind == SESSION:
        if cell < 0:
            return np.nan
        first, tail, block = 0, 1, cell
    room = tail - first if kind == EXACT else (tail - first) * CELL_DIGEST_CENTROIDS
    means, weights = np.empty(room), np.ones(room)
    k, low, high = 0, np.inf, -np.inf
    for p in range(first, tail):
        if kind == EXACT:
            x = pool_f[block + p * width + 1 + v]
            if x == x:
                means[k] = x
                k += 1
                low, high = min(low, x), max(high, x)
            continue
        at = block + p * width + groups[g, G_DIGEST] + v * _CELL_DIGEST_WORDS
        used = int(pool_f[at])
        if used > 0:
            low, high = min(low, pool_f[at + 2]), max(high, pool_f[at + 3])
        for i in range(used):
            means[k], weights[k] = pool_f[at + DIGEST_HEAD + 2 * i], pool_f[at + DIGEST_HEAD + 2 * i + 1]
            k += 1
    return digest_quantile(means[:k], weights[:k], low, high, q)


@inner
def _since(windows, w, pool, cell, now, limits):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Latest instant that is not in the window any more."""
    kind = windows[w, W_KIND]
    if kind == EVERYTHING:
        return NEVER
    if kind == SESSION:
        return now if cell < 0 else pool[cell + CELL_TIME] - 1
    outside = limits[w]
    return (outside + 1) * windows[w, W_STEP] - 1 if kind == STEPPED else outside


@inner
def answer_after(  # type: ignore[no-untyped-def]  # pragma: no cover
    row, words, pool, pool_f, scalars, groups, windows, aggregates, decays, distincts, half_lives, arguments, now, limits, out, asked
):  # fmt: skip
    """Answer everything else; the asking event is part of it where its stream is the view's source."""
    opened, cell = -1, -1
    for a in range(aggregates.shape[0]):
        kind, w, v = aggregates[a, A_KIND], aggregates[a, A_WINDOW], aggregates[a, A_VALUE]
        if (kind >= FIRST and kind <= TIME_SINCE_LAST) or kind == DIFFERENCE or kind == ZSCORE:
            continue
        answer = np.nan
        if kind >= DECAYED_SUM:
            d = aggregates[a, A_AT]
            at = decays[d, D_ROW]
            weight = words[at + DECAY_WEIGHT]
            keep = 1.0
            if decays[d, D_EVENTS] == 0 and kind != DECAYED_MEAN and row[at + DECAY_TIME] != NEVER:
                keep = 0.5 ** ((now - row[at + DECAY_TIME]) / half_lives[d])
            if kind == DECAYED_COUNT:
                answer = weight * keep
            elif weight > 0.0:
                answer = words[at + DECAY_SUM] * keep if kind == DECAYED_SUM else words[at + DECAY_SUM] / weight
            out[a, asked] = answer
            continue
        if windows[w, W_KIND] == SESSION and opened != w:
            cell = open_session(row, words, pool, pool_f, groups, windows, scalars, w, now)
            opened = w
        base = windows[w, W_ROW]
        at = base + WINDOW_WORDS + v * scalars[L_ACC_WORDS]
        if kind == COUNT:
            answer = float(row[base + IN_WINDOW])
        elif kind == RATE:
            span = windows[w, W_LENGTH] / 1000.0
            if windows[w, W_KIND] == EVERYTHING:
                span = (now - row[OLDEST]) / 1000.0 if row[OLDEST] != NEVER else 0.0
            elif windows[w, W_KIND] == SESSION:
                span = (now - pool[cell + CELL_TIME]) / 1000.0 if cell >= 0 else 0.0
            if span > 0.0:
                answer = row[base + IN_WINDOW] / span
        elif kind == DISTINCT:
            answer = count_since(pool, row, distincts[aggregates[a, A_AT], M_ROW], _since(windows, w, pool, cell, now, limits))
        elif row[at + N] > 0:
            if kind == TOTAL:
                answer = words[at + SUM] + words[at + SUM_REST]
            elif kind == MEAN:
                answer = (words[at + SUM] + words[at + SUM_REST]) / row[at + N]
            elif kind == VARIANCE:
                answer = _spread(row, words, at, scalars)
            elif kind == STD:
                answer = math.sqrt(_spread(row, words, at, scalars))
            elif kind == LEAST or kind == MAX:
                answer = extreme(row, words, pool, pool_f, groups, windows, scalars, w, v, kind == MAX)
            elif kind == QUANTILE:
                answer = _quantile(row, pool_f, scalars, groups, windows, w, v, cell, arguments[a])
        out[a, asked] = answer
