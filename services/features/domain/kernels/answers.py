"""What a request is told, from the state of its entity."""

import math

import numpy as np

from tidemill.services.features.domain.kernels.accumulators import are_lost, mean_of, spread_of
from tidemill.services.features.domain.kernels.compiled import allocating, inner
from tidemill.services.features.domain.kernels.digest import digest_quantile
from tidemill.services.features.domain.kernels.distinct import count_since
from tidemill.services.features.domain.kernels.kinds import AggregateKind, WindowKind
from tidemill.services.features.domain.kernels.sessions import open_session
from tidemill.services.features.domain.kernels.sums import unit
from tidemill.services.features.domain.kernels.windows import extreme, refresh
from tidemill.services.features.domain.kernels.words import (
    BLOCK,
    CELL_DIGEST_CENTROIDS,
    CELL_DIGEST_WORDS,
    CELL_TIME,
    DECAY_SUM,
    DECAY_TIME,
    DECAY_UNIT,
    DECAY_WEIGHT,
    DIGEST_HEAD,
    IN_WINDOW,
    LARGEST,
    NEVER,
    NEWEST,
    OLDEST,
    POINTER,
    SUM,
    SUM_REST,
    TAIL,
    WINDOW_WORDS,
    N,
)

_MOST = np.finfo(np.float64).max


@inner
def _figure(kind, x, row, row_f, at, layout):  # pragma: no cover
    """Evaluate what comes of sums; `x` is what `difference` and `zscore` compare."""
    scale = unit(abs(row_f[at + LARGEST]))
    if kind == AggregateKind.SUM:
        return (row_f[at + SUM] + row_f[at + SUM_REST]) / scale
    mean = mean_of(row, row_f, at)
    if kind == AggregateKind.MEAN:
        return mean / scale
    if kind == AggregateKind.DIFFERENCE:
        return x - mean / scale
    spread = spread_of(row, row_f, at, layout.accumulator)
    if kind == AggregateKind.VARIANCE:
        return spread / scale / scale
    spread = math.sqrt(spread)
    if kind == AggregateKind.STD:
        return spread / scale
    return (x * scale - mean) / spread if spread > 0.0 else np.nan


@inner
def _settled(kind, x, row, row_f, memory, layout, w, v, at):  # pragma: no cover
    """Evaluate as `_figure` does; where what has left took the sums with it, from what is in the window, and the state is left as it is."""
    accumulator = layout.accumulator
    if not (row_f[at + LARGEST] < 0.0 and are_lost(row, row_f, at, accumulator)):
        return _figure(kind, x, row, row_f, at, layout)
    squares = accumulator.squares
    s, s_rest, largest = row_f[at + SUM], row_f[at + SUM_REST], row_f[at + LARGEST]
    q, q_rest = (row_f[at + squares], row_f[at + squares + 1]) if squares >= 0 else (0.0, 0.0)
    refresh(row, row_f, memory, layout, w, v)
    answer = _figure(kind, x, row, row_f, at, layout)
    row_f[at + SUM], row_f[at + SUM_REST], row_f[at + LARGEST] = s, s_rest, largest
    if squares >= 0:
        row_f[at + squares], row_f[at + squares + 1] = q, q_rest
    return answer


@inner
def answer_before(row, row_f, memory, layout, now, values, o, out, asked):  # pragma: no cover
    """Answer what compares with the past: the asking event itself has not entered yet."""
    windows, aggregates = layout.windows, layout.aggregates
    for a in range(aggregates.size):
        kind, v = aggregates[a].kind, aggregates[a].value
        answer = np.nan
        if kind == AggregateKind.FIRST:
            answer = row_f[layout.first_row + 2 * v + 1]
        elif kind == AggregateKind.LAST:
            answer = row_f[layout.lag_row + 2 * layout.lags * v + 1]
        elif kind == AggregateKind.LAG:
            answer = row_f[layout.lag_row + 2 * (layout.lags * v + aggregates[a].lag) - 1]
        elif kind == AggregateKind.TIME_SINCE_LAST:
            if row[NEWEST] != NEVER:
                answer = (now - row[NEWEST]) / 1000.0
        elif kind == AggregateKind.TIME_SINCE_FIRST:
            if row[OLDEST] != NEVER:
                answer = (now - row[OLDEST]) / 1000.0
        elif kind == AggregateKind.DIFFERENCE or kind == AggregateKind.ZSCORE:
            w = aggregates[a].window
            if windows[w].kind == WindowKind.SESSION:
                open_session(row, row_f, memory, layout, w, now)
            at = windows[w].row + WINDOW_WORDS + v * layout.accumulator.words
            if row[at + N] > 0:
                answer = _settled(kind, values[o, v], row, row_f, memory, layout, w, v, at)
        else:
            continue
        out[a, asked] = answer if abs(answer) <= _MOST else np.nan


@allocating
def _quantile(row, memory, layout, w, v, cell, q):  # pragma: no cover
    windows, pool_f = layout.windows, memory.pool_f
    kind = windows[w].kind
    if kind == WindowKind.EVERYTHING:
        at = row[layout.digest_row + v]
        if at == 0:
            return np.nan
        used = int(pool_f[at])
        means, weights = np.empty(used), np.empty(used)
        for i in range(used):
            means[i], weights[i] = pool_f[at + DIGEST_HEAD + 2 * i], pool_f[at + DIGEST_HEAD + 2 * i + 1]
        return digest_quantile(means, weights, pool_f[at + 2], pool_f[at + 3], q)
    g = windows[w].group
    group = layout.groups[g]
    place, width = group.row, group.width
    first, tail, block = row[windows[w].row + POINTER], row[place + TAIL], row[place + BLOCK]
    if kind == WindowKind.SESSION:
        if cell < 0:
            return np.nan
        first, tail, block = 0, 1, cell
    room = tail - first if kind == WindowKind.EXACT else (tail - first) * CELL_DIGEST_CENTROIDS
    means, weights = np.empty(room), np.ones(room)
    k, low, high = 0, np.inf, -np.inf
    for p in range(first, tail):
        if kind == WindowKind.EXACT:
            x = pool_f[block + p * width + 1 + v]
            if x == x:
                means[k] = x
                k += 1
                low, high = min(low, x), max(high, x)
            continue
        at = block + p * width + group.digest + v * CELL_DIGEST_WORDS
        used = int(pool_f[at])
        if used > 0:
            low, high = min(low, pool_f[at + 2]), max(high, pool_f[at + 3])
        for i in range(used):
            means[k], weights[k] = pool_f[at + DIGEST_HEAD + 2 * i], pool_f[at + DIGEST_HEAD + 2 * i + 1]
            k += 1
    return digest_quantile(means[:k], weights[:k], low, high, q)


@inner
def _since(layout, w, memory, cell, now, limits):  # pragma: no cover
    """Latest instant that is not in the window any more."""
    windows = layout.windows
    kind = windows[w].kind
    if kind == WindowKind.EVERYTHING:
        return NEVER
    if kind == WindowKind.SESSION:
        return now if cell < 0 else memory.pool[cell + CELL_TIME] - 1
    outside = limits[w]
    return (outside + 1) * windows[w].step_ms - 1 if kind == WindowKind.STEPPED else outside


@inner
def answer_after(row, row_f, memory, layout, now, limits, out, asked):  # pragma: no cover
    """Answer everything else; the asking event is part of it where its stream is the view's source."""
    windows, aggregates, decays, pool = layout.windows, layout.aggregates, layout.decays, memory.pool
    opened, cell = -1, -1
    for a in range(aggregates.size):
        kind, w, v = aggregates[a].kind, aggregates[a].window, aggregates[a].value
        if aggregates[a].compares:
            continue
        answer = np.nan
        d = aggregates[a].decay
        if d >= 0:
            at = decays[d].row
            weight = row_f[at + DECAY_WEIGHT]
            keep = 1.0
            if not decays[d].in_events and kind != AggregateKind.DECAYED_MEAN and row[at + DECAY_TIME] != NEVER:
                keep = 0.5 ** ((now - row[at + DECAY_TIME]) / decays[d].half_life)
            if kind == AggregateKind.DECAYED_COUNT:
                answer = weight * keep
            elif weight > 0.0:
                answer = (row_f[at + DECAY_SUM] * keep if kind == AggregateKind.DECAYED_SUM else row_f[at + DECAY_SUM] / weight) / DECAY_UNIT
            out[a, asked] = answer if abs(answer) <= _MOST else np.nan
            continue
        if windows[w].kind == WindowKind.SESSION and opened != w:
            cell = open_session(row, row_f, memory, layout, w, now)
            opened = w
        base = windows[w].row
        at = base + WINDOW_WORDS + v * layout.accumulator.words
        if kind == AggregateKind.COUNT:
            answer = float(row[base + IN_WINDOW])
        elif kind == AggregateKind.RATE:
            span = windows[w].length_ms / 1000.0
            if windows[w].kind == WindowKind.EVERYTHING:
                span = (now - row[OLDEST]) / 1000.0 if row[OLDEST] != NEVER else 0.0
            elif windows[w].kind == WindowKind.SESSION:
                span = (now - pool[cell + CELL_TIME]) / 1000.0 if cell >= 0 else 0.0
            if span > 0.0:
                answer = row[base + IN_WINDOW] / span
        elif kind == AggregateKind.DISTINCT:
            answer = count_since(pool, row, layout.distincts[aggregates[a].distinct].row, _since(layout, w, memory, cell, now, limits))
        elif row[at + N] > 0:
            if kind == AggregateKind.SUM or kind == AggregateKind.MEAN or kind == AggregateKind.VARIANCE or kind == AggregateKind.STD:
                answer = _settled(kind, 0.0, row, row_f, memory, layout, w, v, at)
            elif kind == AggregateKind.MIN or kind == AggregateKind.MAX:
                answer = extreme(row, row_f, memory, layout, w, v, kind == AggregateKind.MAX)
            elif kind == AggregateKind.QUANTILE:
                answer = _quantile(row, memory, layout, w, v, cell, aggregates[a].argument)
        out[a, asked] = answer if abs(answer) <= _MOST else np.nan
