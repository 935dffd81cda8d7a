"""The fold of one view over one batch, event by event, in compiled code.

Every number a view serves is a function of the entity's records in journal order, computed with the same floating-point operations in the
same order whatever the batching: evictions happen only when a record or a request of that entity is met, oldest first, so neither batch
borders nor restarts can be seen in the bits.
"""

import numpy as np
from numba import njit

COUNT, SUM, MEAN, STD, MIN, MAX, LAST, TIME_SINCE_LAST, DECAYED_MEAN = range(9)
CODES = {
    "count": COUNT,
    "sum": SUM,
    "mean": MEAN,
    "std": STD,
    "min": MIN,
    "max": MAX,
    "last": LAST,
    "time_since_last": TIME_SINCE_LAST,
    "decayed_mean": DECAYED_MEAN,
}
WHOLE_HISTORY = -1


@njit(cache=True, nogil=True)
def _evict(slot, now, windows, start, capacity, pointer, tail, pool_time, pool_value, count, total, square, shift):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Drop from every window what is no longer in (now - window, now]."""
    mask = capacity[slot] - 1
    base = start[slot]
    values = pool_value.shape[1]
    for w in range(windows.size):
        p = pointer[slot, w]
        limit = now - windows[w]
        while p < tail[slot]:
            at = base + (p & mask)
            if pool_time[at] > limit:
                break
            for v in range(values):
                x = pool_value[at, v]
                if x == x:
                    count[slot, w, v] -= 1
                    if count[slot, w, v] == 0:
                        total[slot, w, v] = 0.0
                        square[slot, w, v] = 0.0
                    else:
                        total[slot, w, v] -= x
                        y = x - shift[slot, v]
                        square[slot, w, v] -= y * y
            p += 1
        pointer[slot, w] = p


@njit(cache=True, nogil=True)
def _spread(n, total, square, shift):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Sample standard deviation from sums around a shift; NaN below two values."""
    if n < 2:
        return np.nan
    mean = total / n - shift
    variance = (square - n * mean * mean) / (n - 1)
    return np.sqrt(variance) if variance > 0.0 else 0.0


@njit(cache=True, nogil=True)
def fold_view(  # type: ignore[no-untyped-def]  # noqa: PLR0913, RUF100  # pragma: no cover
    op_slot, op_time, op_offset, op_update, op_row, op_value,
    windows, half_lives, half_life_value, ttl_ms,
    agg_kind, agg_window, agg_value, agg_decay,
    start, capacity, pointer, tail, pool_time, pool_value,
    count, total, square, shift, low, high,
    last_value, last_time, decay_sum, decay_weight, decay_time, included, records,
    out,
):  # fmt: skip
    """Apply updates and answer requests in order.

    Parameters
    ----------
    op_slot, op_time, op_offset, op_update, op_row, op_value
        The operations: entity slot (-1: the request names no entity), journal time, journal offset, whether the row updates, the row of
        `out` it asks for (-1: none), values (m, v) with NaN for null.
    windows : int64 (w,)
        Lengths in ms.
    count, total, square : (slots, w + 1, v)
        Sums per window; the last window is the whole history.
    out : float64 (aggregates, rows)
        Answers; NaN is missing.
    """
    everything = windows.size
    values = op_value.shape[1]
    for i in range(op_slot.size):
        slot = op_slot[i]
        if slot < 0:
            continue
        now = op_time[i]
        if ttl_ms > 0 and last_time[slot] >= 0 and now - last_time[slot] > ttl_ms:
            for w in range(everything):
                pointer[slot, w] = tail[slot]
            for v in range(values):
                for w in range(everything + 1):
                    count[slot, w, v] = 0
                    total[slot, w, v] = 0.0
                    square[slot, w, v] = 0.0
                last_value[slot, v] = np.nan
                shift[slot, v] = np.nan
                low[slot, v] = np.inf
                high[slot, v] = -np.inf
            decay_sum[slot, :] = 0.0
            decay_weight[slot, :] = 0.0
            last_time[slot] = -1
            records[slot] = 0
        _evict(slot, now, windows, start, capacity, pointer, tail, pool_time, pool_value, count, total, square, shift)
        if op_update[i] and op_offset[i] > included[slot]:
            included[slot] = op_offset[i]
            records[slot] += 1
            if windows.size > 0:
                at = start[slot] + (tail[slot] & (capacity[slot] - 1))
                pool_time[at] = now
                for v in range(values):
                    pool_value[at, v] = op_value[i, v]
            tail[slot] += 1
            last_time[slot] = now
            for v in range(values):
                x = op_value[i, v]
                if x == x:
                    if not shift[slot, v] == shift[slot, v]:
                        shift[slot, v] = x
                    y = x - shift[slot, v]
                    for w in range(everything + 1):
                        count[slot, w, v] += 1
                        total[slot, w, v] += x
                        square[slot, w, v] += y * y
                    last_value[slot, v] = x
                    low[slot, v] = min(low[slot, v], x)
                    high[slot, v] = max(high[slot, v], x)
            for d in range(half_lives.size):
                x = op_value[i, half_life_value[d]]
                if x == x:
                    keep = 0.5 ** ((now - decay_time[slot, d]) / half_lives[d]) if decay_weight[slot, d] > 0.0 else 0.0
                    decay_sum[slot, d] = decay_sum[slot, d] * keep + x
                    decay_weight[slot, d] = decay_weight[slot, d] * keep + 1.0
                    decay_time[slot, d] = now
        row = op_row[i]
        if row < 0:
            continue
        for a in range(agg_kind.size):
            kind = agg_kind[a]
            w = agg_window[a]
            v = agg_value[a]
            if w == WHOLE_HISTORY:
                w = everything
            answer = np.nan
            if kind == COUNT:
                answer = float(records[slot]) if w == everything else float(tail[slot] - pointer[slot, w])
            elif kind == LAST:
                answer = last_value[slot, v]
            elif kind == TIME_SINCE_LAST:
                if last_time[slot] >= 0:
                    answer = (now - last_time[slot]) / 1000.0
            elif kind == DECAYED_MEAN:
                if decay_weight[slot, agg_decay[a]] > 0.0:
                    answer = decay_sum[slot, agg_decay[a]] / decay_weight[slot, agg_decay[a]]
            else:
                n = count[slot, w, v]
                if n > 0:
                    if kind == SUM:
                        answer = total[slot, w, v]
                    elif kind == MEAN:
                        answer = total[slot, w, v] / n
                    elif kind == STD:
                        answer = _spread(n, total[slot, w, v], square[slot, w, v], shift[slot, v])
                    elif w == everything:
                        answer = low[slot, v] if kind == MIN else high[slot, v]
                    else:
                        mask = capacity[slot] - 1
                        answer = np.inf if kind == MIN else -np.inf
                        for p in range(pointer[slot, w], tail[slot]):
                            x = pool_value[start[slot] + (p & mask), v]
                            if x == x:
                                answer = min(answer, x) if kind == MIN else max(answer, x)
            out[a, row] = answer
