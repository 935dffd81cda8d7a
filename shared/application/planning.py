"""From an application folder to a plan; every mistake is found here, with file and line."""

import fnmatch
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import fastavro
import pyarrow as pa
from pydantic import ValidationError

from shared.application.document import Document
from shared.application.expressions import Expression, ExpressionError, compile_expression
from shared.application.model import Application, Stream, parse_duration
from shared.application.plan import WINDOWED, AggregatePlan, ExpectationPlan, FeaturePlan, Kind, LabelPlan, ModelPlan, Plan, StreamPlan, ViewPlan
from shared.application.schemas import entry_schema, vector_schema
from shared.application.topics import Topics
from shared.avro.arrow_types import arrow_schema

Path_ = Sequence[str | int]


def load_application(folder: Path) -> Application:
    """Read and validate an application folder; raises ApplicationError."""
    return _application(Document(folder))


def load_plan(folder: Path) -> Plan:
    """Read an application folder and resolve everything in it; raises ApplicationError."""
    document = Document(folder)
    return _Planner(document, _application(document)).plan()


def _application(document: Document) -> Application:
    try:
        return Application.model_validate(document.data)
    except ValidationError as error:
        first = error.errors()[0]
        path = tuple(part for part in first["loc"] if part != "[key]")
        came = f"{first['input']!r}" if first["type"] != "missing" else "nothing"
        raise document.error(path, f"{'.'.join(str(part) for part in path)}: {first['msg'].removeprefix('Value error, ')}", came) from error


def _duration_text(milliseconds: int) -> str:
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if milliseconds % size == 0 and (unit != "d" or milliseconds >= 2 * size):
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


@dataclass
class _Planner:
    document: Document
    application: Application
    hashes: list[bytes] = field(default_factory=list)
    compiled: dict[tuple[str, pa.Schema], Expression] = field(default_factory=dict)
    matches: dict[str, frozenset[str]] = field(default_factory=dict)

    def plan(self) -> Plan:
        application = self.application
        streams = {name: self._stream(name, i, stream) for i, (name, stream) in enumerate(application.streams.items())}
        self._check_partitioning(streams)
        views = tuple(self._view(name, i, streams) for i, name in enumerate(application.views))
        for name, model in application.models.items():
            if model.ask not in streams or streams[model.ask].is_reference:
                raise self.document.error(("models", name, "ask"), "an event stream", model.ask)
        features = self._features(streams, views)
        models = {name: self._model(name, streams, views, features) for name in application.models}
        text = vector_schema(application.app, features)
        digest = hashlib.sha256(application.model_dump_json().encode())
        for part in self.hashes:
            digest.update(part)
        topics = Topics(application.app, tuple(stream.topic for stream in streams.values()))
        return Plan(application, digest.hexdigest(), topics, streams, views, features, text, arrow_schema(text), models)

    def _stream(self, name: str, index: int, stream: Stream) -> StreamPlan:
        path: Path_ = ("streams", name)
        file = self.document.folder / stream.schema_file
        if not file.is_file():
            raise self.document.error((*path, "schema"), "an Avro schema file in the application folder", str(stream.schema_file))
        text = file.read_text(encoding="utf-8")
        self.hashes.append(text.encode())
        try:
            fastavro.parse_schema(json.loads(text))
            user = arrow_schema(text)
        except (ValueError, TypeError, KeyError, fastavro.schema.SchemaParseException) as error:
            raise self.document.error((*path, "schema"), f"an Avro record schema in {stream.schema_file}", str(error)) from error
        if reserved := [column for column in user.names if column.startswith("_")]:
            raise self.document.error((*path, "schema"), "columns that do not begin with an underscore (reserved for the envelope)", reserved[0])
        columns = user
        derivations = []
        for column, sql in stream.derive.items():
            if column in columns.names:
                raise self.document.error((*path, "derive", column), "a new column name", f"{column}, which the stream has already")
            expression = self._compile(sql, columns, (*path, "derive", column))
            derivations.append((column, expression))
            columns = columns.append(pa.field(column, expression.type))
        expectations = []
        for i, expectation in enumerate(stream.expect):
            check = self._compile(expectation.check, columns, (*path, "expect", i, "check"), pa.bool_())
            expectations.append(ExpectationPlan(expectation.name, check, expectation.otherwise == "reject"))
        key = stream.key or self.application.partition_by
        for what, named in (("event_id", stream.event_id), ("event_time", stream.event_time), ("key" if stream.key else "topic", key)):
            if named is not None and named not in columns.names:
                raise self.document.error((*path, what), f"{what}: one of the columns {', '.join(columns.names)}", named)
        if not pa.types.is_timestamp(columns.field(stream.event_time).type):
            raise self.document.error((*path, "event_time"), "a column of type timestamp-millis", str(columns.field(stream.event_time).type))
        entry = entry_schema(self.application.app, name, text, [(column, expression.type) for column, expression in derivations])
        return StreamPlan(
            name, index, stream.topic, stream.kind == "reference", text, user, entry, arrow_schema(entry), stream.event_id, stream.event_time, key,
            stream.allowed_lateness, stream.max_age, tuple(derivations), tuple(expectations),
        )  # fmt: skip

    def _check_partitioning(self, streams: dict[str, StreamPlan]) -> None:
        seen: dict[str, str] = {}
        for name, stream in streams.items():
            if stream.topic in seen:
                raise self.document.error(("streams", name, "topic"), "a topic of its own", f"{stream.topic}, which {seen[stream.topic]} reads")
            seen[stream.topic] = name

    def _view(self, name: str, index: int, streams: dict[str, StreamPlan]) -> ViewPlan:
        path: Path_ = ("views", name)
        view = self.application.views[name]
        entity = self.application.entities.get(view.entity)
        if entity is None:
            raise self.document.error((*path, "entity"), f"one of the entities {', '.join(self.application.entities)}", view.entity)
        if view.source not in streams or streams[view.source].is_reference:
            raise self.document.error((*path, "source"), "an event stream", view.source)
        for stream, column in entity.columns.items():
            if stream not in streams:
                raise self.document.error(("entities", view.entity, "from", stream), f"one of the streams {', '.join(streams)}", stream)
            if column not in streams[stream].entry_arrow.names or streams[stream].entry_arrow.field(column).type != pa.string():
                raise self.document.error(("entities", view.entity, "from", stream), f"a text column of {stream}", column)
        if view.source not in entity.columns:
            raise self.document.error(("entities", view.entity, "from"), f"the column that names {view.entity} in {view.source}", "none")
        if self.application.partitions > 1 and any(column != self.application.partition_by for column in entity.columns.values()):
            raise self.document.error(
                (*path, "entity"),
                f"an entity that is the partition key {self.application.partition_by} (others lie in several partitions)",
                f"{view.entity}; set partitions: 1 or key the view on {self.application.partition_by}",
            )
        source = streams[view.source]
        columns = source.entry_arrow
        where = self._compile(view.where, columns, (*path, "where"), pa.bool_()) if view.where else None
        value = self._number(view.value, columns, (*path, "value")) if view.value else None
        aggregates: list[AggregatePlan] = []
        for i, item in enumerate(view.aggregate):
            aggregates.extend(self._aggregates(name, item, view.windows, value, columns, (*path, "aggregate", i)))
        return ViewPlan(
            name, index, view.entity, view.source, entity.columns[view.source], dict(entity.columns), where, tuple(aggregates), entity.ttl
        )

    def _aggregates(
        self, view: str, item: str | dict[str, Any], windows: Sequence[int | None], value: Expression | None, columns: pa.Schema, path: Path_
    ) -> list[AggregatePlan]:
        kind, argument = (item, None) if isinstance(item, str) else next(iter(item.items()))
        if kind == "decayed_mean":
            try:
                half_life = parse_duration((argument or {}).get("half_life"))
            except (ValueError, AttributeError) as error:
                raise self.document.error(path, "decayed_mean: {half_life: a duration}", str(argument)) from error
            self._needs_value(value, kind, path)
            return [AggregatePlan("decayed_mean", None, half_life, value, f"{view}__decayed_mean_{_duration_text(half_life)}")]
        if kind in ("last", "time_since_last"):
            own = self._number(str(argument), columns, path) if argument is not None else value
            if kind == "last":
                self._needs_value(own, kind, path)
            return [AggregatePlan(cast(Kind, kind), None, None, own if kind == "last" else None, f"{view}__{kind}")]
        if kind not in WINDOWED:
            raise self.document.error(path, f"one of the aggregates {', '.join((*WINDOWED, 'last', 'time_since_last', 'decayed_mean'))}", str(kind))
        if not windows:
            raise self.document.error(path, f"windows for {kind}, e.g. [3h, 7d, all]", "none")
        if kind != "count":
            self._needs_value(value, kind, path)
        return [
            AggregatePlan(
                cast(Kind, kind), w, None, None if kind == "count" else value, f"{view}__{kind}_{'all' if w is None else _duration_text(w)}"
            )
            for w in windows
        ]

    def _features(self, streams: dict[str, StreamPlan], views: tuple[ViewPlan, ...]) -> tuple[FeaturePlan, ...]:
        """Every column some model may name: of the asking events, the reference rows, the views."""
        features: dict[str, FeaturePlan] = {}
        for ask in dict.fromkeys(model.ask for model in self.application.models.values()):
            for column in streams[ask].entry_arrow:
                kind = "string" if column.type == pa.string() else "double"
                if not column.name.startswith("_") and not pa.types.is_timestamp(column.type):
                    features[column.name] = FeaturePlan(column.name, kind, "event", ask, column.name)  # type: ignore[arg-type]
        for stream in streams.values():
            if stream.is_reference:
                for column in stream.user_arrow:
                    if column.name != stream.key and not pa.types.is_timestamp(column.type):
                        kind = "string" if column.type == pa.string() else "double"
                        name = f"{stream.name}__{column.name}"
                        features[name] = FeaturePlan(name, kind, "reference", stream.name, column.name)  # type: ignore[arg-type]
        for view in views:
            for aggregate in view.aggregates:
                features[aggregate.feature] = FeaturePlan(aggregate.feature, "double", "view", view.name, aggregate.feature)
        wanted: set[str] = set()
        for name, model in self.application.models.items():
            for i, pattern in enumerate(model.features):
                if pattern not in self.matches:
                    self.matches[pattern] = frozenset(fnmatch.filter(features, pattern.replace(".", "__")))
                if not self.matches[pattern]:
                    raise self.document.error(("models", name, "features", i), f"features among {', '.join(sorted(features))}", pattern)
                wanted.update(self.matches[pattern])
        return tuple(feature for name, feature in features.items() if name in wanted)

    def _model(self, name: str, streams: dict[str, StreamPlan], views: tuple[ViewPlan, ...], features: tuple[FeaturePlan, ...]) -> ModelPlan:
        path: Path_ = ("models", name)
        model = self.application.models[name]
        label = model.label
        if label.stream not in streams or streams[label.stream].is_reference:
            raise self.document.error((*path, "label", "stream"), "an event stream", label.stream)
        columns = streams[label.stream].entry_arrow
        if label.join not in columns.names:
            raise self.document.error((*path, "label", "join"), f"a column of {label.stream}: {', '.join(columns.names)}", label.join)
        value = self._number(label.value, columns, (*path, "label", "value"))
        asked = frozenset[str]().union(*(self.matches[pattern] for pattern in model.features))
        chosen = [feature.name for feature in features if feature.name in asked]
        for i, column in enumerate(model.slices):
            if column not in streams[model.ask].entry_arrow.names:
                raise self.document.error((*path, "slices", i), f"a column of {model.ask}", column)
        plan = LabelPlan(label.stream, label.join, value, label.max_delay, label.on_timeout, label.timeout_value, label.corrections)
        return ModelPlan(name, model.ask, tuple(chosen), plan, model)

    def _compile(self, sql: str, columns: pa.Schema, path: Path_, kind: pa.DataType | None = None) -> Expression:
        try:
            if (sql, columns) not in self.compiled:
                self.compiled[sql, columns] = compile_expression(sql, columns)
            expression = self.compiled[sql, columns]
        except ExpressionError as error:
            raise self.document.error(path, "a SQL expression over the stream's columns", f"{sql!r}: {error}") from error
        if kind is not None and expression.type != kind:
            raise self.document.error(path, f"an expression of type {kind}", f"{sql!r} of type {expression.type}")
        return expression

    def _number(self, sql: str, columns: pa.Schema, path: Path_) -> Expression:
        expression = self._compile(sql, columns, path)
        if expression.type not in (pa.float64(), pa.int64(), pa.bool_()):
            raise self.document.error(path, "a number or a truth value", f"{sql!r} of type {expression.type}")
        return expression

    def _needs_value(self, value: Expression | None, kind: str, path: Path_) -> None:
        if value is None:
            raise self.document.error(path, f"a `value:` for {kind}", "none")
