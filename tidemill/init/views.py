"""Features beyond the row itself: parts of times, rates of the label, counts and means per entity."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from tidemill.init.names import slug
from tidemill.init.profile import ColumnProfile
from tidemill.init.question import Question
from tidemill.init.timeline import DAY_MS, Timeline, words
from tidemill.shared.application.values import UNITS_MS

_WEEKS = 14 * DAY_MS
_MOST_RATES = 5
_MOST_MEANS = 6
_NICE_MS = (
    *(count * UNITS_MS["s"] for count in (10, 30)), *(count * UNITS_MS["m"] for count in (1, 5, 15, 30)),
    *(count * UNITS_MS["h"] for count in (1, 3, 6, 12)), *(count * UNITS_MS["d"] for count in (1, 3, 7, 14, 30, 60, 90, 180, 365)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DerivedColumn:
    """A column that the stream computes."""

    name: str
    sql: str
    why: str


@dataclass(frozen=True, slots=True)
class WrittenView:
    """A view as the application file has it."""

    name: str
    text: str
    why: str


def derived_columns(columns: Sequence[ColumnProfile], time: str, times: Timeline) -> list[DerivedColumn]:
    """Return hour and weekday of times, and how long before the request the others lie."""
    taken = {one.name for one in columns} | {time}
    derived: list[DerivedColumn] = []

    def add(name: str, sql: str, why: str) -> None:
        if name not in taken:
            taken.add(name)
            derived.append(DerivedColumn(name, sql, why))

    if times.step_ms is None:
        within_days = np.unique(times.asked_ms % DAY_MS)
        if len(within_days) > 1:
            add("asked_hour", f'EXTRACT(hour FROM "{time}")', "of the request, in UTC")
        if times.span_ms >= _WEEKS:
            add("asked_weekday", f'EXTRACT(isodow FROM "{time}")', "1 is Monday")
    for one in columns:
        if one.column.kind == "time":
            name = slug(one.name, "time")
            add(f"{name}_hour", f'EXTRACT(hour FROM "{one.name}")', f"of {one.name}")
            add(f"{name}_weekday", f'EXTRACT(isodow FROM "{one.name}")', "1 is Monday")
            if times.step_ms is None:
                age = f'(EXTRACT(epoch FROM "{time}") - EXTRACT(epoch FROM "{one.name}")) / 86400'
                add(f"{name}_age_days", age, f"days from {one.name} to the request")
    return derived


def views(columns: Sequence[ColumnProfile], question: Question, times: Timeline, model: str) -> list[WrittenView]:
    """Return label rates over all and by entity or category, and what each entity did before."""
    declared: list[WrittenView] = []
    entities = [one for one in columns if one.use == "entity"]
    what = {"binary": "share of the class", "multiclass": "share of each class", "regression": "mean of the label"}[question.kind]
    lives = "100 labels" if question.kind == "multiclass" else "30 labels, 300 labels"
    if question.learned:
        # There is no rate of a class that nobody has named.
        return _named_apart([view for entity in entities for view in _of_entity(entity, columns, times)])
    declared.append(WrittenView("label_rate", f"{{label: {model}, by: [all], half_lives: [{lives}]}}", f"{what} lately, over all requests"))
    by = [one.name for one in (*entities, *_telling(columns))][:_MOST_RATES]
    if by and question.kind != "multiclass":
        text = f"{{label: {model}, by: [{', '.join(by)}], half_lives: [20 labels, 200 labels]}}"
        declared.append(WrittenView("label_rate_by", text, f"the same for requests of the same {' or '.join(by)}"))
    for one in entities:
        declared += _of_entity(one, columns, times)
    return _named_apart(declared)


def _named_apart(declared: Sequence[WrittenView]) -> list[WrittenView]:
    """Return views of which no two have one name: `age` of `user_device` and `device_age` of `user` are called alike."""
    apart = {}
    for view in declared:
        name, number = view.name, 2
        while name in apart:
            name, number = f"{view.name}_{number}", number + 1
        apart[name] = replace(view, name=name)
    return list(apart.values())


def _telling(columns: Sequence[ColumnProfile]) -> list[ColumnProfile]:
    return [one for one in columns if one.use == "feature" and one.categories and one.distinct > 1]


def _of_entity(entity: ColumnProfile, columns: Sequence[ColumnProfile], times: Timeline) -> list[WrittenView]:
    name = slug(entity.name, "entity")
    short, long = _windows(entity, times)
    numbers = [one for one in columns if one.use == "feature" and one.column.kind in ("integer", "number")]
    numbers.sort(key=lambda one: -(one.alone or 0.0))
    aggregates = [
        WrittenView(
            f"{name}_recent",
            f"{{entity: {name}, source: events, aggregate: [count, time_since_last], windows: [{short}, {long}]}}",
            f"how often {entity.name} asked before",
        )
    ]
    for one in numbers[:_MOST_MEANS]:
        aggregates.append(
            WrittenView(
                f"{name}_{slug(one.name, 'number')}",
                f"{{entity: {name}, source: events, value: '\"{one.name}\"', aggregate: [mean], windows: [{long}, all]}}",
                f"{one.name} as {entity.name} usually has it",
            )
        )
    return aggregates


def _windows(entity: ColumnProfile, times: Timeline) -> tuple[str, str]:
    """Return windows that hold about three and about thirty of an entity's rows."""
    rows = entity.column.values.gather(pl.Series(times.rows))
    each = max(1.0, len(rows) / max(1, entity.distinct))
    between = times.span_ms / each
    short = next((nice for nice in _NICE_MS[:-1] if nice >= 3 * between), _NICE_MS[-2])
    long = next((nice for nice in _NICE_MS if nice >= 30 * between), _NICE_MS[-1])
    return words(short), words(max(long, next(nice for nice in _NICE_MS if nice > short)))
