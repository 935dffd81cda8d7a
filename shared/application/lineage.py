"""Where a feature comes from: the columns, the view and the streams that can break it, as the plan says."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from tidemill.shared.application.expressions import Expression
from tidemill.shared.application.plan import FeaturePlan, Plan, StreamPlan, ViewPlan

Behaviour = Literal["window", "history", "calendar"]
"""``history``: an aggregate over everything so far, which moves as long as there is a first row in it; ``calendar``: it moves with the date."""
_CALENDAR = frozenset("hour minute weekday dow doy day month week quarter season dayofweek dayofmonth dayofyear weekofyear monthname dayname".split())
# Words that may follow: day of week, month number. What follows otherwise is what was counted within: day charge, month income.
_PART = frozenset("of the name number num no nr code type bin index idx sin cos utc local".split())
_CALENDAR_SQL = re.compile(r"\b(EXTRACT|DATE_PART|STRFTIME|DAYOFWEEK|WEEKDAY|MONTH|HOUR|WEEK|QUARTER)\s*\(", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Lineage:
    """What one feature is made of.

    Attributes
    ----------
    columns
        Source columns as ``stream.column``: derived ones are followed to what they are derived from, and of a view the value, the filter and what
        names the entity.
    view
        Name of the view; empty where there is none.
    streams
        Names of the streams.
    behaviour
        How its distribution moves when nothing has happened.
    is_date
        Whether it is a date, as days since 1970.
    is_reference
        Whether it comes from a reference stream: many requests share one of its rows.
    """

    columns: frozenset[str]
    view: str
    streams: frozenset[str]
    behaviour: Behaviour = "window"
    is_date: bool = False
    is_reference: bool = False

    @property
    def nodes(self) -> frozenset[str]:
        """Names of what can have broken it, without the streams: ``column:departures.distance``, ``view:route_delay``."""
        return frozenset({f"column:{name}" for name in self.columns} | ({f"view:{self.view}"} if self.view else set()))


def lineage_of(plan: Plan) -> dict[str, Lineage]:
    """Return the lineage of every feature of an application."""
    views = {view.name: view for view in plan.views}
    return {feature.name: _of_feature(feature, plan, views) for feature in plan.features}


def _of_feature(feature: FeaturePlan, plan: Plan, views: Mapping[str, ViewPlan]) -> Lineage:
    if feature.origin == "view":
        return _of_view(views[feature.source], feature.name, plan)
    stream = plan.streams[feature.source]
    columns, fields = _sources(stream, feature.column), stream.user_arrow if stream.is_reference else stream.entry_arrow
    behaviour: Behaviour = "calendar" if _is_calendar(stream, feature.column) else "window"
    is_date = pa.types.is_date(fields.field(feature.column).type)
    return Lineage(_named(stream, columns), "", frozenset({stream.name}), behaviour, is_date, stream.is_reference)


def _of_view(view: ViewPlan, feature: str, plan: Plan) -> Lineage:
    source = plan.streams[view.source]
    aggregate = next((one for one in view.aggregates if one.feature == feature), None)
    expressions = [one for one in (view.where, None if aggregate is None else aggregate.value) if one is not None]
    wanted = {name for one in expressions for name in _roots(one)}
    columns = set(_named(source, {leaf for name in wanted for leaf in _sources(source, name)}))
    for name, column in view.entity_columns.items():
        stream = plan.streams.get(name)
        if stream is not None and (stream.name == source.name or name in plan.asking_streams):
            columns |= _named(stream, _sources(stream, column))
    whole = aggregate is not None and (
        (aggregate.window is not None and aggregate.window.kind == "all") or aggregate.kind in ("first", "time_since_first")
    )
    return Lineage(frozenset(columns), view.name, frozenset({source.name}), "history" if whole else "window")


def _named(stream: StreamPlan, columns: set[str]) -> frozenset[str]:
    return frozenset(f"{stream.name}.{column}" for column in columns)


def _roots(expression: Expression) -> set[str]:
    return set(expression.compiled.meta.root_names())


def _sources(stream: StreamPlan, column: str) -> set[str]:
    """Return the columns of the user's schema that a column is made of; a derivation may use those before it."""
    derived = dict(stream.derivations)
    sources, open_columns, met = set(), [column], {column}
    while open_columns:
        name = open_columns.pop()
        roots = _roots(derived[name]) - {name} if name in derived else set()
        if not roots:
            sources.add(name)
            continue
        open_columns += sorted(roots - met)
        met |= roots
    return sources


def _is_calendar(stream: StreamPlan, column: str) -> bool:
    """Whether a column tells the time of day, the weekday or the season: by its derivation or by its name."""
    derived = dict(stream.derivations)
    if column in derived:
        sources = _sources(stream, column)
        if _CALENDAR_SQL.search(derived[column].sql) or sources == {stream.event_time}:
            return True
        if all(_is_calendar_name(name) for name in sources):
            return True
    return _is_calendar_name(column)


def _is_calendar_name(name: str) -> bool:
    """Whether a name ends with a part of the calendar (`sched_hour`, `dayOfWeek`, `month_nr`), and not in a rate (`calls_per_day`)."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]
    first = next((place for place, word in enumerate(words) if word in _CALENDAR), None)
    if first is None or "per" in words[:first]:
        return False
    return set(words[first:]) <= _CALENDAR | _PART
