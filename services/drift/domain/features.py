"""The distributions of the features: today's, the window's, all before that, and what each champion was trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.drift.domain.data_quality import day_figures
from tidemill.services.drift.domain.null_shifts import WINDOWS_KEPT
from tidemill.services.drift.domain.rows import floats
from tidemill.services.drift.domain.scale import UsualScale, levels_of
from tidemill.services.drift.domain.shifts import STATISTICS, Summary, shifts_of
from tidemill.services.drift.domain.silence import HOURS
from tidemill.shared.avro.chosen_rows import together
from tidemill.shared.statistics.histogram import Tally
from tidemill.shared.statistics.sketch import Sketch
from tidemill.shared.statistics.sketches import Sketches

_CHUNK_ROWS = 16_384
_LEAST_ROWS = 100
_WINDOW_DAYS = 7
_WINDOW_ROWS = 2_000
_MOST_DAYS = 60
_LEAST_PARTS = 3


@dataclass(frozen=True, slots=True)
class FeatureColumn:
    """Name and type of one column of the vector."""

    name: str
    type: Literal["double", "string"]

    def empty(self) -> Summary:
        """Summary of no rows."""
        return Sketch.empty() if self.type == "double" else Tally()

    def load(self, state: dict[str, Any]) -> Summary:
        """Summary of a snapshot."""
        return Sketch.load(state) if self.type == "double" else Tally.load(state)


def merged(first: Summary, second: Summary) -> Summary:
    """Of both together."""
    if isinstance(first, Sketch) and isinstance(second, Sketch):
        # Merging with nothing changes nothing, and most days are one chunk.
        return second if first.is_empty else first.merged(second)
    if isinstance(first, Tally) and isinstance(second, Tally):
        return first.merged(second)
    raise TypeError(f"expected two summaries of one kind, got {type(first).__name__} and {type(second).__name__}")


def merged_all(parts: Mapping[str, Sequence[Summary]]) -> dict[str, Summary]:
    """Of all of each name together, in order; one at least."""
    merged_summaries: dict[str, Summary] = {}
    groups: dict[str, list[Sketch]] = {}
    for name, some in parts.items():
        sketches = [part for part in some if isinstance(part, Sketch)]
        if len(sketches) == len(some):
            groups[name] = sketches
            # Keeps the place of the name.
            merged_summaries[name] = sketches[0]
            continue
        merged_summaries[name] = some[0]
        for part in some[1:]:
            merged_summaries[name] = merged(merged_summaries[name], part)
    return merged_summaries | dict(zip(groups, Sketches.union(list(groups.values())).parts, strict=True))


@dataclass(frozen=True, slots=True)
class Day:
    """Rows and summaries of a day that is over; `lag_ms` are the times from event to journal, `hours` the rows by hour."""

    day: int
    rows: int
    summaries: Mapping[str, Summary]
    lag_ms: Sketch
    hours: Sequence[int] = ()


@dataclass(slots=True)
class FeatureFold:
    """Summaries of the vectors of one asking stream.

    Rows wait as columns and are summarised some thousand at a time: summaries do not depend on how rows were grouped, so nobody can
    tell. A window is the last seven days, and more (up to 60) until it has 2,000 rows. When a day is over, the distances of the window that ends
    with it from what came before the window are kept (`null`, the last 90 of each feature), because that is what later windows are to be held
    against; so are the day's figures of data quality (`daily`).

    Memory: by feature at most 62 summaries of at most 512 cells or 2,000 categories; days beyond the seventh hold less than 2,000 rows together.

    Attributes
    ----------
    window
        Summaries of the window that ends with the last day that is over, if it had rows; not part of the state.
    measured
        Distances of that window by column, where it had rows enough; not part of the state.
    """

    columns: Sequence[FeatureColumn]
    today: dict[str, Summary] = field(default_factory=dict)
    history: dict[str, Summary] = field(default_factory=dict)
    ring: list[Day] = field(default_factory=list)
    null: dict[str, list[list[float]]] = field(default_factory=dict)
    daily: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    rows: int = 0
    lags: Sketch = field(default_factory=Sketch.empty)
    hours: list[int] = field(default_factory=lambda: [0] * HOURS)
    window: dict[str, Summary] = field(default_factory=dict)
    measured: dict[str, list[float]] = field(default_factory=dict)
    _lags: list[NDArray[np.float64]] = field(default_factory=list)
    _waiting: list[pa.RecordBatch] = field(default_factory=list)
    _rows: int = 0

    def __post_init__(self) -> None:
        for column in self.columns:
            self.today.setdefault(column.name, column.empty())
            self.history.setdefault(column.name, column.empty())
            self.null.setdefault(column.name, [])
            self.daily.setdefault(column.name, {})

    def absorb(self, batch: pa.RecordBatch, lag_ms: NDArray[np.float64] | None = None, hour: NDArray[np.int64] | None = None) -> None:
        """Add vectors of the current day, with the milliseconds from the event time of each to its journal time, and the hour of that."""
        self.rows += batch.num_rows
        if lag_ms is not None:
            self._lags.append(lag_ms)
        if hour is not None:
            self.hours = (np.bincount(hour, minlength=HOURS) + np.array(self.hours)).tolist()
        self._waiting.append(batch.select([column.name for column in self.columns]))
        self._rows += batch.num_rows
        if self._rows >= _CHUNK_ROWS:
            self.settle()

    def settle(self) -> None:
        """Summarise the rows that wait."""
        if not self._waiting:
            return
        batch = together(self._waiting)
        values = {column.name: batch.column(column.name) for column in self.columns}
        numbers = [column.name for column in self.columns if column.type == "double"]
        summaries: dict[str, Summary] = {column.name: Tally.of_column(values[column.name]) for column in self.columns if column.type == "string"}
        if numbers:
            summaries |= zip(numbers, Sketches.of(np.stack([floats(values[name]) for name in numbers])).parts, strict=True)
        for name in self.today:
            self.today[name] = merged(self.today[name], summaries[name])
        if self._lags:
            self.lags = merged_lags(self.lags, np.concatenate(self._lags))
        self._waiting, self._lags, self._rows = [], [], 0

    def seen(self) -> dict[str, Summary]:
        """Return what a champion promoted now is held against: the days that are over, if they have two thirds of all rows; else everything so far.

        What began to break today has been judged by nobody: as a part of the reference it would hide itself.
        """
        self.settle()
        over = {column.name: [self.history[column.name], *(day.summaries[column.name] for day in self.ring)] for column in self.columns}
        rows = sum(one.rows for one in next(iter(over.values()), ()))
        return merged_all(over if rows >= (_LEAST_PARTS - 1) * self.rows else {name: [*some, self.today[name]] for name, some in over.items()})

    def scales(self) -> dict[str, UsualScale]:
        """Return the usual scale of each column of numbers: by the days before the window, if at least two thirds of the days came before it.

        A fault within the window may not have been told yet: a day of some hundred rows hides a factor of units, the window shows it when all of its
        days have it. As what a new champion is held against, these days would hide it for good.
        """
        recent = sum(one.rows >= _LEAST_ROWS for one in self.ring)
        levels, before = levels_of(self.seen()), levels_of(self.history)
        usual: dict[str, UsualScale] = {}
        for name in levels:
            figures, spreads = (self.daily[name].get(figure, []) for figure in ("factor_log", "spread"))
            is_settled = name in before and recent > 0 and len(figures) >= _LEAST_PARTS * recent
            known = (figures[:-recent], before[name], spreads[:-recent]) if is_settled else (figures, levels[name], spreads)
            usual[name] = UsualScale.of(*known)
        return usual

    def has_window(self, day: int) -> bool:
        """Whether the window that ends with a day has its length in days and in rows, or as many days as are kept."""
        span = day - self.ring[0].day + 1 if self.ring else 0
        return span >= _WINDOW_DAYS and (sum(one.rows for one in self.ring) >= _WINDOW_ROWS or span >= _MOST_DAYS)

    def close_day(self, day: int) -> Day:
        """End a day: its rows go into the window, and days that the window needs no more into the history."""
        self.settle()
        closed = Day(day, self.rows, self.today, self.lags, self.hours)
        self.window, self.measured, self.hours = {}, {}, [0] * HOURS
        if not self.rows:
            return closed
        judged = {name: one for name, one in closed.summaries.items() if one.rows >= _LEAST_ROWS}
        for name, figures in day_figures(self.history, judged).items():
            for figure, value in figures.items():
                _keep(self.daily[name].setdefault(figure, []), value)
        self.ring.append(closed)
        self._trim(day)
        self.window = merged_all({column.name: [one.summaries[column.name] for one in self.ring] for column in self.columns})
        if self.has_window(day):
            for name, shift in shifts_of(self.history, self.window).items():
                if shift.rows >= _LEAST_ROWS:
                    self.measured[name] = [getattr(shift, statistic) for statistic in STATISTICS]
                    _keep(self.null[name], self.measured[name])
        self.rows, self.lags = 0, Sketch.empty()
        self.today = {column.name: column.empty() for column in self.columns}
        return closed

    def snapshot(self, ask: str) -> dict[str, Any]:
        """State as entries of plain lists and numbers, by kind, asking stream, and column or day."""
        self.settle()
        state: dict[str, Any] = {}
        for name in self.today:
            state[f"today/{ask}/{name}"] = self.today[name].snapshot()
            state[f"history/{ask}/{name}"] = self.history[name].snapshot()
        state[f"null/{ask}"] = {name: list(windows) for name, windows in self.null.items()}
        for one in self.ring:
            summaries = {name: summary.snapshot() for name, summary in one.summaries.items()}
            state[f"ring/{ask}/{one.day}"] = {"rows": one.rows, "summaries": summaries}
        daily = {name: {figure: list(values) for figure, values in figures.items()} for name, figures in self.daily.items()}
        plain = {"windows": daily, "rows": self.rows, "hours": self.hours, "lags": self.lags.snapshot()}
        state[f"daily/{ask}"] = {"ring": [one.day for one in self.ring], **plain}
        return state

    def load(self, ask: str, state: Mapping[str, Any]) -> None:
        """Take the entries of a snapshot."""
        for column in self.columns:
            self.today[column.name] = column.load(state[f"today/{ask}/{column.name}"])
            self.history[column.name] = column.load(state[f"history/{ask}/{column.name}"])
        self.null = {name: [list(one) for one in values] for name, values in state[f"null/{ask}"].items()}
        own = state[f"daily/{ask}"]
        self.daily = {name: {figure: list(values) for figure, values in some.items()} for name, some in own["windows"].items()}
        self.rows, self.hours, self.lags = own["rows"], list(own["hours"]), Sketch.load(own["lags"])
        self.ring = [self._day(int(number), state[f"ring/{ask}/{number}"]) for number in own["ring"]]

    def _day(self, day: int, state: Mapping[str, Any]) -> Day:
        return Day(day, state["rows"], {column.name: column.load(state["summaries"][column.name]) for column in self.columns}, Sketch.empty())

    def _trim(self, day: int) -> None:
        """Move the days that the window can do without into the history."""
        rows = sum(one.rows for one in self.ring)
        while self.ring[0].day <= day - _WINDOW_DAYS and (rows - self.ring[0].rows >= _WINDOW_ROWS or self.ring[0].day <= day - _MOST_DAYS):
            oldest = self.ring.pop(0)
            rows -= oldest.rows
            self.history = merged_all({name: [self.history[name], one] for name, one in oldest.summaries.items()})


def _keep(windows: list[Any], value: Any) -> None:
    """Add what was measured of a window, and let go of the oldest."""
    windows.append(value)
    del windows[:-WINDOWS_KEPT]


def merged_lags(lags: Sketch, more: NDArray[np.float64]) -> Sketch:
    """Return the lags of a day with some more rows."""
    return lags.merged(Sketch.of(more))
