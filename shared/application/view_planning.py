"""From the views of an application file to what the feature engine computes; every mistake is found here, with file and line."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from tidemill.shared.application.aggregate_planning import AggregatePlanner
from tidemill.shared.application.column_roles import KEYS, is_key, texts_meet
from tidemill.shared.application.document import Document
from tidemill.shared.application.file_expressions import FileExpressions
from tidemill.shared.application.label_planning import label_plan, rate_values
from tidemill.shared.application.model import Application
from tidemill.shared.application.plan import AggregatePlan, JoinPlan, StreamPlan, ViewPlan
from tidemill.shared.application.values import parse_half_life
from tidemill.shared.application.view_definition import Entity, LabelRates, View
from tidemill.shared.application.window_planning import duration_text, half_life_text, window_plan

Path_ = Sequence[str | int]


@dataclass(frozen=True, slots=True)
class ViewPlanner:
    """Plans the views of one application."""

    document: Document
    application: Application
    streams: Mapping[str, StreamPlan]
    expressions: FileExpressions

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
        where = self.expressions.condition(view.where, source.entry_arrow, (*path, "where")) if view.where else None
        value = self.expressions.number(view.value, source.entry_arrow, (*path, "value")) if view.value else None
        if view.resolution is not None:
            for i, window in enumerate(view.windows):
                if window.sliding is not None and window.resolution is None and (view.resolution <= 0 or window.sliding % view.resolution):
                    raise self.document.error(
                        (*path, "windows", i), f"a multiple of the resolution {duration_text(view.resolution)}", duration_text(window.sliding)
                    )
        windows = [window_plan(window, view.resolution) for window in view.windows]
        aggregates = list(AggregatePlanner(self.document, self.expressions, name, view, source, value, windows).plans())
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
        kinds = [stream.entry_arrow.field(column).type for column, stream in ((join.on, source), (request_column, asked))]
        for column, kind, key in zip((join.on, request_column), kinds, ("on", "on_request"), strict=True):
            if not is_key(kind):
                raise self.document.error((*path, "join", key), f"{key}: a column that identifies a request: {KEYS}", f"{column}, {kind}")
        if not texts_meet(*kinds):
            raise self.document.error(
                (*path, "join", "on"), f"{join.on} of a type that meets {request_column} of {asked.name} ({kinds[1]}): the same, or text",
                f"{join.on}, {kinds[0]}",
            )  # fmt: skip
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
        if model.learns_classes:
            raise self.document.error((*path, "label"), "a model whose classes are declared: each has a rate", f"{rates.label}, classes: learned")
        asked, label = self.streams[model.ask], self.streams[model.label.stream]
        plan = label_plan(self.document, ("models", rates.label), model, label.entry_arrow, self.expressions.compile)
        values = rate_values(plan)
        if plan.codes is None and plan.kind.name == "binary" and plan.value.type != pa.bool_():
            # A number that is no label of the model is none of its rates either.
            sql = model.label.value
            place: Path_ = ("models", rates.label, "label", "value")
            values = {"": self.expressions.number(f"CASE WHEN ({sql}) = 0 OR ({sql}) = 1 THEN ({sql}) END", label.entry_arrow, place)}
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
            if column == "all" and column in asked.entry_arrow.names:
                expected = f"all to mean one thing: {asked.name} has a column of that name; call the column otherwise"
                raise self.document.error((*path, "by", i), expected, column)
            if self.application.partitions > 1 and column != self.application.partition_by:
                raise self.document.error((*path, "by", i), f"the partition key {self.application.partition_by} (with several partitions)", column)
            # Features are fields in Avro, whose names have no dots.
            called = f"{name}__{column.replace('.', '__')}"
            aggregates = tuple(
                AggregatePlan("decayed_mean", f"{called}_{of}{half_life_text(*half)}", half_life_ms=half[0], half_life_events=half[1], value=value)
                for of, value in values.items()
                for half in half_lives
            )
            everything = column == "all"
            # The name is the feature set's, too: no entity of the file can be called so.
            kind = None if everything else f"{asked.name}.{column}"
            join = None if everything else JoinPlan(asked.name, str(asked.event_id), model.label.join, model.label.max_delay)
            columns = {} if everything else {asked.name: column}
            yield ViewPlan(called, first + i, kind, label.name, columns, join, True, None, aggregates, None)


def _nameable(columns: pa.Schema) -> list[str]:
    kinds = (pa.string(), pa.int64(), pa.int32(), pa.bool_())
    return [field.name for field in columns if field.type in kinds and not field.name.startswith("_")]
