"""What a request is told, from the state of its entity."""

import math

import numpy as np

from tidemill.services.features.domain.kernels.accumulators import are_lost, mean_of, spread_of
from tidemill.services.features.domain.kernels.compiled import allocating, inner
from tidemill.services.features.domain.kernels.digest import digest_quantile
from tidemill.services.features.domain.kernels.distinct import count_since
from tidemill.services.features.domain.kernels.layout import (
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
    DECAY_UNIT,
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
    LARGEST,
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
from tidemill.services.features.domain.kernels.layout import MIN as LEAST
from tidemill.services.features.domain.kernels.sessions import open_session
from tidemill.services.features.domain.kernels.sums import unit
from tidemill.services.features.domain.kernels.windows import extreme, refresh

_CELL_DIGEST_WORDS = DIGEST_HEAD + 2 * CELL_DIGEST_CENTROIDS


_MOST = np.finfo(np.float64).max


@inner
def _figure(kind, x, row, words, at, scalars):  # pragma: no cover
    """Evaluate what comes of sums; `x` is what `difference` and `zscore` compare."""
    scale = unit(abs(words[at + LARGEST]))
    if kind == TOTAL:
        return (words[at + SUM] + words[at + SUM_REST]) / scale
    mean = mean_of(row, words, at)
    if kind == MEAN:
        return mean / scale
    if kind == DIFFERENCE:
        return x - mean / scale
    spread = spread_of(row, words, at, scalars)
    if kind == VARIANCE:
        return spread / scale / scale
    spread = math.sqrt(spread)
    if kind == STD:
        return spread / scale
    return (x * scale - mean) / spread if spread > 0.0 else np.nan


@inner
def _settled(kind, x, row, words, pool, pool_f, groups, windows, scalars, w, v, at):  # pragma: no cover
    """Evaluate as `_figure` does; where what has left took the sums with it, from what is in the window, and the state is left as it is."""
    if not (words[at + LARGEST] < 0.0 and are_lost(row, words, at, scalars)):
        return _figure(kind, x, row, words, at, scalars)
    squares = scalars[L_SQUARES]
    s, s_rest, largest = words[at + SUM], words[at + SUM_REST], words[at + LARGEST]
    q, q_rest = (words[at + squares], words[at + squares + 1]) if squares >= 0 else (0.0, 0.0)
    refresh(row, words, pool, pool_f, groups, windows, scalars, w, v)
    answer = _figure(kind, x, row, words, at, scalars)
    words[at + SUM], words[at + SUM_REST], words[at + LARGEST] = s, s_rest, largest
    if squares >= 0:
        words[at + squares], words[at + squares + 1] = q, q_rest
    return answer


@inner
def answer_before(row, words, pool, pool_f, scalars, groups, windows, aggregates, now, op_value, o, out, asked):  # pragma: no cover
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
            if row[at + N] > 0:
                answer = _settled(kind, op_value[o, v], row, words, pool, pool_f, groups, windows, scalars, w, v, at)
        else:
            continue
        out[a, asked] = answer if abs(answer) <= _MOST else np.nan


@allocating
def _quantile(row, pool_f, scalars, groups, windows, w, v, cell, q):  # pragma: no cover
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
def _since(windows, w, pool, cell, now, limits):  # pragma: no cover
    """Latest instant that is not in the window any more."""
    kind = windows[w, W_KIND]
    if kind == EVERYTHING:
        return NEVER
    if kind == SESSION:
        return now if cell < 0 else pool[cell + CELL_TIME] - 1
    outside = limits[w]
    return (outside + 1) * windows[w, W_STEP] - 1 if kind == STEPPED else outside


@inner
def answer_after(  # pragma: no cover
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
                answer = (words[at + DECAY_SUM] * keep if kind == DECAYED_SUM else words[at + DECAY_SUM] / weight) / DECAY_UNIT
            out[a, asked] = answer if abs(answer) <= _MOST else np.nan
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
            if kind == TOTAL or kind == MEAN or kind == VARIANCE or kind == STD:
                answer = _settled(kind, 0.0, row, words, pool, pool_f, groups, windows, scalars, w, v, at)
            elif kind == LEAST or kind == MAX:
                answer = extreme(row, words, pool, pool_f, groups, windows, scalars, w, v, kind == MAX)
            elif kind == QUANTILE:
                answer = _quantile(row, pool_f, scalars, groups, windows, w, v, cell, arguments[a])
        out[a, asked] = answer if abs(answer) <= _MOST else np.nan
