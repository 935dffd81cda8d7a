"""From the views of an application file to what the feature engine computes; every mistake is found here, with file and line."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa

from tidemill.shared.application.document import Document
from tidemill.shared.application.expressions import Expression, ExpressionError, compile_expression
from tidemill.shared.application.label_planning import label_plan, rate_values
from tidemill.shared.application.model import Application, Entity, LabelRates, View, Window
from tidemill.shared.application.plan import ACCUMULATED, EVER, AggregatePlan, JoinPlan, Kind, StreamPlan, ViewPlan, WindowPlan
from tidemill.shared.application.values import parse_half_life

Path_ = Sequence[str | int]
_WITHOUT_VALUE = ("count", "rate", "distinct", "time_since_first", "time_since_last", "decayed_count")
_WITH_ARGUMENT = ("distinct", "quantile", "lag", "ratio", "decayed_sum", "decayed_count", "decayed_mean")


def duration_text(milliseconds: int) -> str:
    """Return a duration as feature names write it."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if milliseconds % size == 0 and (unit != "d" or milliseconds >= 2 * size):
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


def half_life_text(half_life_ms: int | None, events: float | None) -> str:
    """Return a half-life as feature names write it."""
    return duration_text(half_life_ms) if half_life_ms is not None else f"{events:g}events".replace(".", "_")


def window_plan(window: Window, resolution_ms: int | None) -> WindowPlan:
    """Resolve a window; `resolution_ms` is the view's."""
    if window.all:
        return WindowPlan("all", 0, 0, "all")
    if window.session is not None:
        return WindowPlan("session", window.session, 0, f"session_{duration_text(window.session)}")
    if window.tumbling is not None:
        return WindowPlan("sliding", window.tumbling, window.tumbling, f"tumbling_{duration_text(window.tumbling)}")
    if window.hopping is not None and window.every is not None:
        text = f"hopping_{duration_text(window.hopping)}_{duration_text(window.every)}"
        return WindowPlan("sliding", window.hopping, window.every, text)
    length = cast(int, window.sliding)
    return WindowPlan("sliding", length, window.resolution or resolution_ms or 0, duration_text(length))


@dataclass(frozen=True, slots=True)
class ViewPlanner:
    """Plans the views of one application.

    Parameters
    ----------
    compile_number
        Compiles an expression of the file and refuses what is no number, naming the place.
    compile_condition
        The same for truth values.
    compile_any
        The same for every type.
    """

    document: Document
    application: Application
    streams: Mapping[str, StreamPlan]
    compile_number: Callable[[str, pa.Schema, Path_], Expression]
    compile_condition: Callable[[str, pa.Schema, Path_], Expression]
    compile_any: Callable[[str, pa.Schema, Path_], Expression]

    def plans(self) -> tuple[ViewPlan, ...]:
        """Return every view, one-line label rates expanded."""
        plans: list[ViewPlan] = []
        for name, view in self.application.views.items():
            if isinstance(view, LabelRates):
                plans.extend(self._label_rates(name, view, len(plans)))
            else:
                plans.append(self._view(name, view, len(plans)))
        seen: dict[str, str] = {}
        for plan in plans:
            for aggregate in plan.aggregates:
                if aggregate.feature in seen:
                    path = ("views", plan.name if plan.name in self.application.views else seen[aggregate.feature])
                    raise self.document.error(path, "a feature of that name once", f"{aggregate.feature} twice; put one into another view")
                seen[aggregate.feature] = plan.name
        return tuple(plans)

    def _view(self, name: str, view: View, index: int) -> ViewPlan:
        path: Path_ = ("views", name)
        if view.source not in self.streams or self.streams[view.source].is_reference:
            events = [stream.name for stream in self.streams.values() if not stream.is_reference]
            raise self.document.error((*path, "source"), f"an event stream ({', '.join(events)})", view.source)
        source = self.streams[view.source]
        entity = self._entity(path, view)
        join = self._join(path, view, source) if view.join is not None else None
        columns: dict[str, str] = {}
        ttl = None
        if entity is not None:
            columns, ttl = dict(entity.columns), entity.ttl
            if join is not None:
                columns.pop(view.source, None)
                if join.stream not in columns:
                    raise self.document.error((*path, "join", "stream"), f"a stream that names {view.entity} ({', '.join(columns)})", join.stream)
            elif view.source not in columns:
                place = ("entities", str(view.entity), "from")
                raise self.document.error(place, f"the column that names {view.entity} in {view.source}, or a join in the view", "none")
        self._check_partitions(path, view, columns)
        where = self.compile_condition(view.where, source.entry_arrow, (*path, "where")) if view.where else None
        value = self.compile_number(view.value, source.entry_arrow, (*path, "value")) if view.value else None
        if view.resolution is not None:
            for i, window in enumerate(view.windows):
                if window.sliding is not None and window.resolution is None and (view.resolution <= 0 or window.sliding % view.resolution):
                    raise self.document.error(
                        (*path, "windows", i), f"a multiple of the resolution {duration_text(view.resolution)}", duration_text(window.sliding)
                    )
        windows = [window_plan(window, view.resolution) for window in view.windows]
        aggregates = list(_Aggregates(self, name, view, source, value, windows).plans())
        return ViewPlan(name, index, view.entity, view.source, columns, join, view.time == "event", where, tuple(aggregates), ttl)

    def _entity(self, path: Path_, view: View) -> Entity | None:
        if view.entity is None:
            return None
        entity = self.application.entities.get(view.entity)
        if entity is None:
            raise self.document.error((*path, "entity"), f"one of the entities {', '.join(self.application.entities)}", view.entity)
        for stream, column in entity.columns.items():
            place = ("entities", view.entity, "from", stream)
            if stream not in self.streams:
                raise self.document.error(place, f"one of the streams {', '.join(self.streams)}", stream)
            columns = self.streams[stream].entry_arrow
            if column not in columns.names or columns.field(column).type not in (pa.string(), pa.int64(), pa.int32(), pa.bool_()):
                raise self.document.error(place, f"a text or whole-number column of {stream}: {', '.join(_nameable(columns))}", column)
        return entity

    def _join(self, path: Path_, view: View, source: StreamPlan) -> JoinPlan:
        join = view.join
        if join is None:
            raise ValueError("expected a view with a join")
        asked = self.streams.get(join.stream)
        if asked is None or asked.is_reference or join.stream == view.source:
            raise self.document.error((*path, "join", "stream"), "another event stream, the one of the requests", join.stream)
        request_column = join.on_request or str(asked.event_id)
        for column, stream, key in ((join.on, source, "on"), (request_column, asked, "on_request")):
            if column not in stream.entry_arrow.names:
                raise self.document.error((*path, "join", key), f"a column of {stream.name}: {', '.join(_nameable(stream.entry_arrow))}", column)
        if join.within <= 0:
            raise self.document.error((*path, "join", "within"), "how long requests are remembered, e.g. 36h", "0")
        return JoinPlan(join.stream, request_column, join.on, join.within)

    def _check_partitions(self, path: Path_, view: View, columns: Mapping[str, str]) -> None:
        key = self.application.partition_by
        if self.application.partitions > 1 and (view.entity is None or any(column != key for column in columns.values())):
            raise self.document.error(
                (*path, "entity"),
                f"an entity that is the partition key {key} (others lie in several partitions)",
                f"{view.entity or 'all records'}; set partitions: 1 or key the view on {key}",
            )

    def _label_rates(self, name: str, rates: LabelRates, first: int) -> Iterator[ViewPlan]:
        path: Path_ = ("views", name)
        model = self.application.models.get(rates.label)
        if model is None:
            raise self.document.error((*path, "label"), f"one of the models {', '.join(self.application.models)}", rates.label)
        if model.ask not in self.streams or model.label.stream not in self.streams:
            raise self.document.error(("models", rates.label, "ask"), f"one of the streams {', '.join(self.streams)}", model.ask)
        asked, label = self.streams[model.ask], self.streams[model.label.stream]
        plan = label_plan(self.document, ("models", rates.label), model, label.entry_arrow, self.compile_any)
        values = rate_values(plan)
        if plan.codes is None and plan.kind.name == "binary" and plan.value.type != pa.bool_():
            # A number that is no label of the model is none of its rates either.
            sql = model.label.value
            place: Path_ = ("models", rates.label, "label", "value")
            values = {"": self.compile_number(f"CASE WHEN ({sql}) = 0 OR ({sql}) = 1 THEN ({sql}) END", label.entry_arrow, place)}
        if model.label.join not in label.entry_arrow.names:
            raise self.document.error(("models", rates.label, "label", "join"), f"a column of {label.name}", model.label.join)
        half_lives = []
        for i, text in enumerate(rates.half_lives):
            try:
                half_lives.append(parse_half_life(text))
            except ValueError as error:
                raise self.document.error((*path, "half_lives", i), str(error), text) from error
        for i, column in enumerate(rates.by):
            if column != "all" and column not in _nameable(asked.entry_arrow):
                raise self.document.error((*path, "by", i), f"a text or whole-number column of {asked.name}, or all", column)
            if self.application.partitions > 1 and column != self.application.partition_by:
                raise self.document.error((*path, "by", i), f"the partition key {self.application.partition_by} (with several partitions)", column)
            aggregates = tuple(
                AggregatePlan(
                    "decayed_mean", f"{name}__{column}_{of}{half_life_text(*half)}", half_life_ms=half[0], half_life_events=half[1], value=value
                )
                for of, value in values.items()
                for half in half_lives
            )
            everything = column == "all"
            # The name is the feature set's, too: no entity of the file can be called so.
            kind = None if everything else f"{asked.name}.{column}"
            join = None if everything else JoinPlan(asked.name, str(asked.event_id), model.label.join, model.label.max_delay)
            columns = {} if everything else {asked.name: column}
            yield ViewPlan(f"{name}__{column}", first + i, kind, label.name, columns, join, True, None, aggregates, None)


@dataclass(frozen=True, slots=True)
class _Aggregates:
    """The `aggregate` list of one view."""

    planner: ViewPlanner
    view_name: str
    view: View
    source: StreamPlan
    value: Expression | None
    windows: Sequence[WindowPlan]

    def plans(self) -> Iterator[AggregatePlan]:
        ratios = []
        for i, item in enumerate(self.view.aggregate):
            path: Path_ = ("views", self.view_name, "aggregate", i)
            if isinstance(item, dict) and len(item) != 1:
                raise self.planner.document.error(path, "one aggregate an entry, e.g. {lag: 3}", str(dict(item)))
            kind, argument = (item, None) if isinstance(item, str) else next(iter(item.items()))
            if kind not in (*ACCUMULATED, *EVER, "ratio"):
                raise self.planner.document.error(path, f"one of the aggregates {', '.join((*ACCUMULATED, *EVER, 'ratio'))}", str(kind))
            if argument is None and kind in _WITH_ARGUMENT:
                raise self.planner.document.error(path, _EXAMPLES[kind], str(kind))
            if argument is not None and kind in ACCUMULATED and kind not in _WITH_ARGUMENT:
                raise self.planner.document.error(path, f"{kind} by itself", str(dict(item)) if isinstance(item, dict) else str(item))
            if kind == "ratio":
                ratios.append((argument, path))
            elif kind in ACCUMULATED:
                yield from self._windowed(cast(Kind, kind), argument, path)
            else:
                yield from self._ever(cast(Kind, kind), argument, path)
        for argument, path in ratios:
            yield self._ratio(argument, path)

    def _windowed(self, kind: Kind, argument: Any, path: Path_) -> Iterator[AggregatePlan]:  # noqa: ANN401, RUF100
        if not self.windows:
            raise self.planner.document.error(path, f"windows for {kind}, e.g. windows: [3h, 7d, all]", "none")
        value = self.value
        label: str = kind
        arguments: list[float] = [0.0]
        if kind == "distinct":
            value = self._any(str(argument), path)
            label = f"distinct_{argument}" if str(argument).isidentifier() else "distinct"
        elif kind == "quantile":
            arguments = self._numbers(argument, path, "quantile: a number or numbers between 0 and 1")
            if any(not 0.0 <= number <= 1.0 for number in arguments):
                raise self.planner.document.error(path, "quantiles between 0 and 1", str(argument))
        if kind not in _WITHOUT_VALUE:
            self._needs_value(value, kind, path)
        for number in arguments:
            named = f"quantile_{number:g}".replace(".", "_") if kind == "quantile" else label
            for window in self.windows:
                plan = AggregatePlan(kind, f"{self.view_name}__{named}_{window.text}", window, argument=number)
                yield plan if kind in ("count", "rate") else _with_value(plan, value)

    def _ever(self, kind: Kind, argument: Any, path: Path_) -> Iterator[AggregatePlan]:  # noqa: ANN401, RUF100
        name = f"{self.view_name}__{kind}"
        if kind in ("time_since_first", "time_since_last"):
            yield AggregatePlan(kind, name)
        elif kind in ("first", "last"):
            own = self.planner.compile_number(str(argument), self.source.entry_arrow, path) if argument is not None else self.value
            self._needs_value(own, kind, path)
            yield AggregatePlan(kind, name, value=own)
        elif kind == "lag":
            self._needs_value(self.value, kind, path)
            for number in self._numbers(argument, path, "lag: how many values back, e.g. {lag: 3} or {lag: [1, 2, 3]}"):
                if number < 1 or number > 64 or number != int(number):
                    raise self.planner.document.error(path, "a whole number from 1 to 64", str(argument))
                yield AggregatePlan(kind, f"{name}_{int(number)}", value=self.value, argument=number)
        else:
            yield from self._decayed(kind, argument, path)

    def _decayed(self, kind: Kind, argument: Any, path: Path_) -> Iterator[AggregatePlan]:  # noqa: ANN401, RUF100
        given = argument.get("half_life") if isinstance(argument, dict) and set(argument) == {"half_life"} else None
        try:
            half_lives = [parse_half_life(text) for text in (given if isinstance(given, list) else [given])]
        except ValueError as error:
            raise self.planner.document.error(path, f"{kind}: {{half_life: a duration or a number of events}}", str(argument)) from error
        if kind != "decayed_count":
            self._needs_value(self.value, kind, path)
        for duration, events in half_lives:
            yield AggregatePlan(
                kind, f"{self.view_name}__{kind}_{half_life_text(duration, events)}",
                half_life_ms=duration, half_life_events=events, value=self.value if kind != "decayed_count" else None,
            )  # fmt: skip

    def _ratio(self, argument: Any, path: Path_) -> AggregatePlan:  # noqa: ANN401, RUF100
        if not isinstance(argument, list) or len(argument) != 2 or not all(isinstance(name, str) for name in argument):
            raise self.planner.document.error(path, _EXAMPLES["ratio"], str(argument))
        operands = tuple(name if "__" in name else f"{self.view_name}__{name}" for name in argument)
        text = "_per_".join(name.removeprefix(f"{self.view_name}__") for name in operands)
        return AggregatePlan("ratio", f"{self.view_name}__ratio_{text}", operands=operands)

    def _numbers(self, argument: Any, path: Path_, expected: str) -> list[float]:  # noqa: ANN401, RUF100
        given = argument if isinstance(argument, list) else [argument]
        if not given or any(isinstance(number, bool) or not isinstance(number, int | float) for number in given):
            raise self.planner.document.error(path, expected, str(argument))
        return [float(number) for number in given]

    def _any(self, sql: str, path: Path_) -> Expression:
        try:
            return compile_expression(sql, self.source.entry_arrow)
        except ExpressionError as error:
            raise self.planner.document.error(path, f"a SQL expression over the columns of {self.source.name}", f"{sql!r}: {error}") from error

    def _needs_value(self, value: Expression | None, kind: str, path: Path_) -> None:
        if value is None:
            raise self.planner.document.error(path, f"a `value:` for {kind}", "none")


_EXAMPLES: Mapping[str, str] = {
    "distinct": "what is to be counted, e.g. {distinct: merchant_id}",
    "quantile": "which, e.g. {quantile: [0.5, 0.95]}",
    "lag": "how many values back, e.g. {lag: 1}",
    "ratio": "two features, e.g. {ratio: [sum_1h, sum_24h]}",
    "decayed_sum": "a half-life, e.g. {decayed_sum: {half_life: 6h}}",
    "decayed_count": "a half-life, e.g. {decayed_count: {half_life: 6h}}",
    "decayed_mean": "a half-life, e.g. {decayed_mean: {half_life: 30 events}}",
}


def _with_value(plan: AggregatePlan, value: Expression | None) -> AggregatePlan:
    return AggregatePlan(plan.kind, plan.feature, plan.window, value=value, argument=plan.argument)


def _nameable(columns: pa.Schema) -> list[str]:
    kinds = (pa.string(), pa.int64(), pa.int32(), pa.bool_())
    return [field.name for field in columns if field.type in kinds and not field.name.startswith("_")]
