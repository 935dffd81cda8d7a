"""Where every number of a view's state stands: planned once, so that the kernels only add offsets.

The state of an entity is one row of 64-bit words (some hold floats), so an event touches a few cache lines, and a checkpoint copies a row.
What grows (the records or steps inside windows, distinct values, sketches) lies in blocks of a pool, and the row holds where.

Row: head; groups of windows (block, size class, cells used, cells there is room for); windows (pointer, records, one accumulator a value);
first values; lagged values; decayed sums; distinct counters; sketches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.application.expressions import Expression
from tidemill.shared.application.plan import EVER, KINDS, AggregatePlan, ViewPlan, WindowPlan

INCLUDED, NEWEST, OLDEST, RECORDS, USED, HEAD_WORDS = range(6)
"""Head of a row: journal offset of the last record in it; newest and oldest event time; records; 1 once in use."""
EXACT, STEPPED, SESSION, EVERYTHING = range(4)
"""Kinds of windows and of their groups."""
GROUP_WORDS, WINDOW_WORDS = 4, 2
BLOCK, CLASS, TAIL, ROOM = range(4)
POINTER, IN_WINDOW = range(2)
CELL_TIME, CELL_RECORDS, CELL_END = range(3)
"""A cell of a stepped or session group begins with its step (or the session's first time), its records, and a session's last time."""
N, SUM, SUM_REST, LARGEST = range(4)
"""An accumulator begins with the count of values, their sum as two floats, and the largest magnitude among them, negative once that one has left;
squares, minimum and maximum follow where they are needed. Sums and squares are in units that follow from the largest magnitude (`sums.unit`)."""
DECAY_SUM, DECAY_WEIGHT, DECAY_TIME, DECAY_WORDS = range(4)
DECAY_UNIT = 2.0**-64
"""Decayed sums are kept in units of 2**64: no number of finite values overflows one."""
DISTINCT_BLOCK, DISTINCT_CLASS, DISTINCT_USED, DISTINCT_COUNT, DISTINCT_SINCE, DISTINCT_WORDS = range(6)
CELL_DIGEST_CENTROIDS, DIGEST_CENTROIDS = 32, 128
DIGEST_HEAD = 4
"""A t-digest: centroids used, weight, minimum, maximum; then mean and weight of each centroid."""

(
    COUNT, TOTAL, MEAN, VARIANCE, STD, MIN, MAX, RATE, DISTINCT, QUANTILE, DIFFERENCE, ZSCORE,
    FIRST, LAST, LAG, TIME_SINCE_FIRST, TIME_SINCE_LAST, DECAYED_SUM, DECAYED_COUNT, DECAYED_MEAN, RATIO,
) = range(len(KINDS))  # fmt: skip
CODES = {kind: code for code, kind in enumerate(KINDS)}
NEVER = -(1 << 62)

# Columns of the tables.
G_KIND, G_STEP, G_WIDTH, G_ROW, G_FIRST, G_WINDOWS, G_DIGEST, G_COLUMNS = range(8)
W_KIND, W_LENGTH, W_STEP, W_GROUP, W_ROW, W_STEPS, W_COLUMNS = range(7)
A_KIND, A_WINDOW, A_VALUE, A_AT, A_EXTRA, A_COLUMNS = range(6)
D_ROW, D_VALUE, D_EVENTS, D_COLUMNS = range(4)
M_ROW, M_SOURCE, M_BOUND, M_COLUMNS = range(4)
L_WIDTH, L_VALUES, L_ACC_WORDS, L_SQUARES, L_MIN, L_MAX, L_FIRST_ROW, L_LAG_ROW, L_LAGS, L_DIGEST_ROW, L_REACH, L_TTL, L_LATENESS, L_COLUMNS = range(
    14
)

Table = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Layout:
    """The tables that drive the kernels.

    Attributes
    ----------
    values
        What is aggregated, by position in the operations' value columns.
    distincts
        What is counted distinctly, by position in the operations' hash columns.
    scalars : int64 (L_COLUMNS,)
    groups, windows, aggregates, decays, distinct_table : int64 tables, one row each
    half_lives : float64, one a decay; ms or events
    arguments : float64, one an aggregate
    """

    values: Sequence[Expression]
    distincts: Sequence[Expression]
    scalars: Table
    groups: Table
    windows: Table
    aggregates: Table
    decays: Table
    distinct_table: Table
    half_lives: NDArray[np.float64]
    arguments: NDArray[np.float64]

    @property
    def width(self) -> int:
        """Words of a row."""
        return int(self.scalars[L_WIDTH])


def _group_of(window: WindowPlan) -> tuple[int, int]:
    if window.kind == "session":
        return SESSION, window.length_ms
    return (STEPPED, window.step_ms) if window.step_ms else (EXACT, 0)


def _table(rows: list[list[int]], columns: int) -> Table:
    return np.array(rows, np.int64).reshape(len(rows), columns)


def plan_layout(view: ViewPlan, lateness_ms: int) -> Layout:
    """Plan the state of one view; `lateness_ms` is how far its source's records may come out of order."""
    aggregates = [aggregate for aggregate in view.aggregates if aggregate.kind != "ratio"]
    numeric = [aggregate.value for aggregate in aggregates if aggregate.value is not None and aggregate.kind != "distinct"]
    values = list({expression.sql: expression for expression in numeric}.values())
    distincts = list({a.value.sql: a.value for a in aggregates if a.kind == "distinct" and a.value is not None}.values())
    value_at = {expression.sql: i for i, expression in enumerate(values)}
    distinct_at = {expression.sql: i for i, expression in enumerate(distincts)}
    wanted = list(dict.fromkeys(a.window for a in aggregates if a.window is not None))
    grouped: dict[tuple[int, int], list[WindowPlan]] = {}
    for window in wanted:
        if window.kind != "all":
            grouped.setdefault(_group_of(window), []).append(window)
    ordered = [window for group in grouped.values() for window in group] + [window for window in wanted if window.kind == "all"]

    kinds = {a.kind for a in aggregates}
    squares = bool(kinds & {"variance", "std", "zscore"})
    low, high = "min" in kinds, "max" in kinds
    words = LARGEST + 1
    squares_at, words = (words, words + 2) if squares else (-1, words)
    low_at, words = (words, words + 1) if low else (-1, words)
    high_at, words = (words, words + 1) if high else (-1, words)

    at = HEAD_WORDS
    group_rows, window_rows = [], []
    first = 0
    digests = [a for a in aggregates if a.kind == "quantile"]
    for (kind, step), members in grouped.items():
        sketched = any(a.window in members for a in digests) and kind != EXACT
        head = CELL_RECORDS + 1 if kind == STEPPED else CELL_END + 1
        digest_at = head + words * len(values)
        width = 1 + len(values) if kind == EXACT else digest_at + (_digest_words(CELL_DIGEST_CENTROIDS) * len(values) if sketched else 0)
        group_rows.append([kind, step, width, at, first, len(members), digest_at if sketched else -1])
        at += GROUP_WORDS
        first += len(members)
    groups_by_window = {window: g for g, members in enumerate(grouped.values()) for window in members}
    for window in ordered:
        group = groups_by_window.get(window, -1)
        kind = EVERYTHING if window.kind == "all" else group_rows[group][G_KIND]
        window_rows.append([kind, window.length_ms, window.step_ms, group, at, window.length_ms // window.step_ms if window.step_ms else 0])
        at += WINDOW_WORDS + words * len(values)
    first_row, at = at, at + (2 * len(values) if "first" in kinds else 0)
    lags = max([int(a.argument) for a in aggregates if a.kind == "lag"] + [1 if "last" in kinds else 0])
    lag_row, at = at, at + 2 * lags * len(values)
    decays = list(dict.fromkeys((a.half_life_ms, a.half_life_events, _value_of(a, value_at)) for a in aggregates if a.kind.startswith("decayed")))
    decay_rows = []
    for _, events, value in decays:
        decay_rows.append([at, value, int(events is not None)])
        at += DECAY_WORDS
    distinct_rows = []
    for m, expression in enumerate(distincts):
        own = [a.window for a in aggregates if a.kind == "distinct" and a.value is not None and a.value.sql == expression.sql and a.window]
        # Stepped windows reach back a step further than their length; sessions and everything have no bound.
        bound = -1 if any(w.kind != "sliding" for w in own) else max(w.length_ms + w.step_ms for w in own)
        distinct_rows.append([at, m, bound])
        at += DISTINCT_WORDS
    ever = any(a.window is not None and a.window.kind == "all" for a in digests)
    digest_row, at = at, at + (len(values) if ever else 0)

    window_at = {window: i for i, window in enumerate(ordered)}
    aggregate_rows = []
    for a in aggregates:
        value = _value_of(a, value_at)
        place = -1
        if a.kind == "distinct" and a.value is not None:
            place = distinct_at[a.value.sql]
        elif a.kind.startswith("decayed"):
            place = decays.index((a.half_life_ms, a.half_life_events, value))
        looked_at = window_at[a.window] if a.window is not None else -1
        aggregate_rows.append([CODES[a.kind], looked_at, value, place, int(a.argument) if a.kind == "lag" else 0])
    scalars = np.zeros(L_COLUMNS, np.int64)
    scalars[:] = [
        at, len(values), words, squares_at, low_at, high_at, first_row if "first" in kinds else -1, lag_row, lags,
        digest_row if ever else -1, _reach(view, wanted, lateness_ms), view.ttl_ms or 0, lateness_ms,
    ]  # fmt: skip
    return Layout(
        values, distincts, scalars, _table(group_rows, G_COLUMNS), _table(window_rows, W_COLUMNS), _table(aggregate_rows, A_COLUMNS),
        _table(decay_rows, D_COLUMNS), _table(distinct_rows, M_COLUMNS),
        np.array([half if half is not None else events for half, events, _ in decays], np.float64),
        np.array([a.argument for a in aggregates], np.float64),
    )  # fmt: skip


def _reach(view: ViewPlan, windows: Sequence[WindowPlan], lateness_ms: int) -> int:
    """How long after its last record an entity's state can still be seen in an answer; -1: for ever."""
    if any(a.kind in EVER for a in view.aggregates) or any(window.kind == "all" for window in windows):
        return -1
    reach = (2 * window.length_ms + lateness_ms if window.kind == "session" else window.length_ms + window.step_ms for window in windows)
    return max(reach, default=0)


def _value_of(aggregate: AggregatePlan, value_at: dict[str, int]) -> int:
    return value_at[aggregate.value.sql] if aggregate.value is not None and aggregate.kind != "distinct" else -1


def _digest_words(centroids: int) -> int:
    return DIGEST_HEAD + 2 * centroids
