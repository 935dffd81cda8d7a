"""Plans the layout of a view's state: once, so that the kernels only add offsets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tidemill.services.features.domain.kernels.kinds import COMPARING, DECAYED, SQUARED, AggregateKind, WindowKind
from tidemill.services.features.domain.kernels.layout import AGGREGATE, DECAY, DISTINCT, GROUP, WINDOW, AccumulatorLayout, StateLayout
from tidemill.services.features.domain.kernels.words import (
    CELL_DIGEST_WORDS,
    CELL_END,
    CELL_RECORDS,
    DECAY_WORDS,
    DISTINCT_WORDS,
    GROUP_WORDS,
    HEAD_WORDS,
    LARGEST,
    WINDOW_WORDS,
)
from tidemill.shared.application.expressions import Expression
from tidemill.shared.application.plan import EVER, AggregatePlan, ViewPlan, WindowPlan


@dataclass(frozen=True, slots=True)
class ViewLayout:
    """What a view is made of.

    Attributes
    ----------
    values
        What is aggregated, by column of the operations' values.
    distincts
        What is counted distinctly, by column of the operations' hashes.
    state
        What the kernels have to know.
    """

    values: Sequence[Expression]
    distincts: Sequence[Expression]
    state: StateLayout


class _Row:
    """Hands out the words of a row, one run after the other. Checkpoints hold rows: another order makes their blobs unreadable."""

    def __init__(self) -> None:
        self.words = HEAD_WORDS

    def take(self, words: int) -> int:
        """Return the first of so many words."""
        first, self.words = self.words, self.words + words
        return first


def plan_layout(view: ViewPlan, lateness_ms: int) -> ViewLayout:
    """Plan the state of one view; `lateness_ms` is how far its source's records may come out of order."""
    aggregates = [aggregate for aggregate in view.aggregates if aggregate.kind != "ratio"]
    numeric = [a.value for a in aggregates if a.value is not None and a.kind != "distinct"]
    values = list({expression.sql: expression for expression in numeric}.values())
    distincts = list({a.value.sql: a.value for a in aggregates if a.kind == "distinct" and a.value is not None}.values())
    columns = {expression.sql: i for i, expression in enumerate(values)}
    wanted = list(dict.fromkeys(a.window for a in aggregates if a.window is not None))
    grouped = _grouped(wanted)
    ordered = [window for members in grouped.values() for window in members] + [window for window in wanted if window.kind == "all"]
    kinds = frozenset(AggregateKind.of(a.kind) for a in aggregates)
    accumulator = _accumulator(kinds)
    sketched = {a.window for a in aggregates if a.kind == "quantile"}

    row = _Row()
    groups = _groups(grouped, accumulator.words * len(values), CELL_DIGEST_WORDS * len(values), len(values), sketched, row)
    windows = _windows(ordered, grouped, accumulator.words * len(values), row)
    first_row = row.take(2 * len(values)) if AggregateKind.FIRST in kinds else -1
    lags = max([int(a.argument) for a in aggregates if a.kind == "lag"] + [1 if AggregateKind.LAST in kinds else 0])
    lag_row = row.take(2 * lags * len(values))
    decayed = [_decayed(a, columns) for a in aggregates if AggregateKind.of(a.kind) in DECAYED]
    decays = list(dict.fromkeys(decayed))
    decay_rows = [(row.take(DECAY_WORDS), value, in_events, half_life) for half_life, in_events, value in decays]
    distinct_rows = [(row.take(DISTINCT_WORDS), _bound_ms(aggregates, expression)) for expression in distincts]
    digest_row = row.take(len(values)) if any(window is not None and window.kind == "all" for window in sketched) else -1

    numbers = {expression.sql: i for i, expression in enumerate(distincts)}
    aggregate_rows = []
    for a in aggregates:
        kind = AggregateKind.of(a.kind)
        window = ordered.index(a.window) if a.window is not None else -1
        decay = decays.index(_decayed(a, columns)) if kind in DECAYED else -1
        distinct = numbers[a.value.sql] if kind == AggregateKind.DISTINCT and a.value is not None else -1
        lag = int(a.argument) if kind == AggregateKind.LAG else 0
        aggregate_rows.append((kind, kind in COMPARING, window, _column(a, columns), decay, distinct, lag, a.argument))
    state = StateLayout(
        width=row.words,
        values=len(values),
        accumulator=accumulator,
        first_row=first_row,
        lag_row=lag_row,
        lags=lags,
        digest_row=digest_row,
        reach_ms=_reach_ms(view, wanted, lateness_ms),
        ttl_ms=view.ttl_ms or 0,
        lateness_ms=lateness_ms,
        groups=np.array(groups, GROUP),
        windows=np.array(windows, WINDOW),
        aggregates=np.array(aggregate_rows, AGGREGATE),
        decays=np.array(decay_rows, DECAY),
        distincts=np.array(distinct_rows, DISTINCT),
    )
    return ViewLayout(values, distincts, state)


def _accumulator(kinds: frozenset[AggregateKind]) -> AccumulatorLayout:
    words = LARGEST + 1
    squares, words = (words, words + 2) if kinds & SQUARED else (-1, words)
    low, words = (words, words + 1) if AggregateKind.MIN in kinds else (-1, words)
    high, words = (words, words + 1) if AggregateKind.MAX in kinds else (-1, words)
    return AccumulatorLayout(words, squares, low, high)


_Group = tuple[WindowKind, int]
"""Kind and step (ms) of windows that share their cells."""


def _grouped(windows: Sequence[WindowPlan]) -> dict[_Group, list[WindowPlan]]:
    grouped: dict[_Group, list[WindowPlan]] = {}
    for window in windows:
        if window.kind == "session":
            grouped.setdefault((WindowKind.SESSION, window.length_ms), []).append(window)
        elif window.kind == "sliding":
            grouped.setdefault((WindowKind.STEPPED, window.step_ms) if window.step_ms else (WindowKind.EXACT, 0), []).append(window)
    return grouped


def _groups(
    grouped: dict[_Group, list[WindowPlan]], sums: int, sketches: int, values: int, sketched: set[WindowPlan | None], row: _Row
) -> list[tuple[int, ...]]:
    """Plan the groups; `sums` and `sketches` are the words of a cell's accumulators and of its sketches."""
    rows: list[tuple[int, ...]] = []
    first = 0
    for (kind, step_ms), members in grouped.items():
        width, digest = 1 + values, -1
        if kind != WindowKind.EXACT:
            width = (CELL_RECORDS if kind == WindowKind.STEPPED else CELL_END) + 1 + sums
            if any(window in sketched for window in members):
                width, digest = width + sketches, width
        rows.append((kind, step_ms, width, row.take(GROUP_WORDS), first, first + len(members), digest))
        first += len(members)
    return rows


def _windows(ordered: Sequence[WindowPlan], grouped: dict[_Group, list[WindowPlan]], sums: int, row: _Row) -> list[tuple[int, ...]]:
    groups = {window: (number, kind) for number, ((kind, _), members) in enumerate(grouped.items()) for window in members}
    rows: list[tuple[int, ...]] = []
    for window in ordered:
        group, kind = groups.get(window, (-1, WindowKind.EVERYTHING))
        steps = window.length_ms // window.step_ms if window.step_ms else 0
        rows.append((kind, window.length_ms, window.step_ms, group, row.take(WINDOW_WORDS + sums), steps))
    return rows


def _bound_ms(aggregates: Sequence[AggregatePlan], counted: Expression) -> int:
    """How far the windows reach back over which an expression's values are counted; -1: without bound, as sessions and the whole history do."""
    windows = [a.window for a in aggregates if a.kind == "distinct" and a.value is not None and a.value.sql == counted.sql and a.window]
    # Stepped windows reach back a step further than their length.
    return -1 if any(w.kind != "sliding" for w in windows) else max(w.length_ms + w.step_ms for w in windows)


def _reach_ms(view: ViewPlan, windows: Sequence[WindowPlan], lateness_ms: int) -> int:
    """How long after its last record an entity's state can still be seen in an answer; -1: for ever."""
    if any(a.kind in EVER for a in view.aggregates) or any(window.kind == "all" for window in windows):
        return -1
    reach = (2 * window.length_ms + lateness_ms if window.kind == "session" else window.length_ms + window.step_ms for window in windows)
    return max(reach, default=0)


def _decayed(aggregate: AggregatePlan, columns: dict[str, int]) -> tuple[float, bool, int]:
    """Half-life, whether it is in events, and column of the decayed sum that an aggregate is read from."""
    in_events = aggregate.half_life_ms is None
    half_life = aggregate.half_life_events if in_events else aggregate.half_life_ms
    assert half_life is not None  # noqa: S101 - a decayed kind has one of the two
    return float(half_life), in_events, _column(aggregate, columns)


def _column(aggregate: AggregatePlan, columns: dict[str, int]) -> int:
    return columns[aggregate.value.sql] if aggregate.value is not None and aggregate.kind != "distinct" else -1
