"""From an application folder to a plan; every mistake is found here, with file and line."""

import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import ValidationError

from tidemill.shared.application.alert_rules import AlertRuleError, compile_rule
from tidemill.shared.application.column_roles import FEATURES, KEYS, feature_kind, is_key, texts_meet, way_out
from tidemill.shared.application.control_share import ANSWER, ControlPlan
from tidemill.shared.application.debezium import PREFIX
from tidemill.shared.application.document import Document
from tidemill.shared.application.expressions import ExpressionError, compile_expression
from tidemill.shared.application.file_expressions import FileExpressions
from tidemill.shared.application.label_planning import check_kind, label_plan
from tidemill.shared.application.model import Application, Label, Model
from tidemill.shared.application.plan import AggregatePlan, FeaturePlan, ModelPlan, Plan, StreamPlan, ViewPlan
from tidemill.shared.application.schemas import entry_name, vector_schema
from tidemill.shared.application.stream_planning import StreamPlanner
from tidemill.shared.application.topics import Topics
from tidemill.shared.application.view_definition import VIEW_KINDS
from tidemill.shared.application.view_planning import ViewPlanner
from tidemill.shared.application.view_version import MOST_VERSIONS_BYTES, versions_bytes
from tidemill.shared.avro.arrow_types import arrow_schema
from tidemill.shared.log.topics import catalogue_topics

Path_ = Sequence[str | int]


def load_application(folder: Path) -> Application:
    """Read and validate an application folder; raises ApplicationError."""
    return _application(Document(folder))


def load_plan(folder: Path) -> Plan:
    """Read an application folder and resolve everything in it; raises ApplicationError."""
    document = Document(folder)
    return _Planner(document, _application(document), FileExpressions(document)).plan()


def _application(document: Document) -> Application:
    try:
        return Application.model_validate(document.data)
    except ValidationError as error:
        first = error.errors()[0]
        path = tuple(part for i, part in enumerate(first["loc"]) if part != "[key]" and not (i == 2 and part in VIEW_KINDS))
        came = f"{first['input']!r}" if first["type"] != "missing" else "nothing"
        raise document.error(path, f"{'.'.join(str(part) for part in path)}: {first['msg'].removeprefix('Value error, ')}", came) from error


@dataclass
class _Planner:
    document: Document
    application: Application
    expressions: FileExpressions
    matches: dict[str, frozenset[str]] = field(default_factory=dict)

    def plan(self) -> Plan:
        application = self.application
        planner = StreamPlanner(self.document, application, self.expressions)
        streams = {name: planner.plan(name, i, stream) for i, (name, stream) in enumerate(application.streams.items())}
        self._check_names(streams)
        self._check_partitioning(streams)
        for name, model in application.models.items():
            if model.ask not in streams or streams[model.ask].is_reference:
                raise self.document.error(("models", name, "ask"), "an event stream", model.ask)
            check_kind(self.document, ("models", name), model)
        views = self._views(streams)
        features = self._features(streams, views)
        self._check_weight(features)
        models = {name: self._model(name, streams, views, features) for name in application.models}
        text = vector_schema(application.app, features)
        # From what is left out no record follows that others are made of.
        given = application.model_dump_json(
            exclude={"topology": True, "alerts": True, "models": {"__all__": {"explain": True, "retraining": {"cpu_per_day"}}}}
        )
        digest = hashlib.sha256(given.encode())
        for schema in planner.schema_texts:
            digest.update(schema.encode())
        topics = Topics(application.app, tuple(stream.topic for stream in streams.values()))
        self._check_alerts()
        return Plan(application, digest.hexdigest(), topics, streams, views, features, text, arrow_schema(text), models)

    def _check_alerts(self) -> None:
        """Compile the rules once, so that a mistake is found here: nobody would miss an alert that never comes."""
        for name, rule in self.application.alerts.rules.items():
            try:
                compile_rule(name, rule, self.application.owner)
            except AlertRuleError as error:
                raise self.document.error(("alerts", "rules", name, error.key), error.expected, error.came) from error

    def _check_names(self, streams: dict[str, StreamPlan]) -> None:
        """Refuse two streams whose journal entries would have one name: of entries with the same columns, those of one were taken for the other's."""
        seen: dict[str, str] = {}
        for name in streams:
            other = seen.setdefault(entry_name(name), name)
            if other != name:
                expected = f"a name that differs from {other} in more than underscores: entries of both would be called {entry_name(name)}"
                raise self.document.error(("streams", name), expected, name)

    def _check_partitioning(self, streams: dict[str, StreamPlan]) -> None:
        seen: dict[str, str] = {}
        # Kafka takes `.` and `_` for one letter where it names metrics, and refuses topics that differ in them alone.
        own = {topic.name.replace(".", "_"): topic.name for topic in catalogue_topics(self.application.app, 1)}
        for name, stream in streams.items():
            place, alike = ("streams", name, "topic"), stream.topic.replace(".", "_")
            if stream.topic in (".", "..") or stream.topic.startswith("__"):
                raise self.document.error(place, "the name of a topic: Kafka keeps . and .. and names that begin with two underscores", stream.topic)
            if alike in own:
                raise self.document.error(place, f"a topic that is none of {self.application.app}'s own ({own[alike]})", stream.topic)
            for other in seen:
                if other != stream.topic and other.replace(".", "_") == alike:
                    raise self.document.error(
                        place, f"a topic that differs from {other} in more than . and _, which Kafka takes for one", stream.topic
                    )
            if stream.topic in seen:
                raise self.document.error(("streams", name, "topic"), "a topic of its own", f"{stream.topic}, which {seen[stream.topic]} reads")
            seen[stream.topic] = name

    def _views(self, streams: Mapping[str, StreamPlan]) -> tuple[ViewPlan, ...]:
        views = ViewPlanner(self.document, self.application, streams, self.expressions).plans()
        known = {aggregate.feature: aggregate.kind for view in views for aggregate in view.aggregates}
        for view in views:
            for aggregate in view.aggregates:
                for operand in aggregate.operands:
                    if known.get(operand, "ratio") == "ratio":
                        among = ", ".join(name for name, kind in known.items() if kind != "ratio")
                        raise self.document.error(("views", view.name, "aggregate"), f"features of views to divide, among {among}", operand)
                if aggregate.kind in ("difference", "zscore"):
                    self._check_comparable(view, aggregate, streams)
        return views

    def _check_comparable(self, view: ViewPlan, aggregate: AggregatePlan, streams: Mapping[str, StreamPlan]) -> None:
        """A comparison needs the asking event's own value: some asking stream must be the view's source."""
        asks = {model.ask for model in self.application.models.values()}
        if view.source not in asks:
            raise self.document.error(
                ("views", view.name, "aggregate"),
                f"{aggregate.kind} only where the requests are the view's source {view.source}: it compares the asking event's own value",
                f"requests from {', '.join(sorted(asks))}",
            )

    def _features(self, streams: dict[str, StreamPlan], views: tuple[ViewPlan, ...]) -> tuple[FeaturePlan, ...]:
        """Every column some model may name: of the asking events, the reference rows, the views."""
        features: dict[str, FeaturePlan] = {}
        others: dict[str, pa.Field] = {}
        twice: dict[str, str] = {}

        def put(one: FeaturePlan) -> None:
            # A column of several asking streams is one feature, which whichever asks fills.
            before = features.get(one.name)
            if before is not None and (before.column != one.column or before.origin != one.origin):
                twice[one.name] = f"{_origin(before)} and {_origin(one)}"
            features[one.name] = one

        def add(name: str, column: pa.Field, origin: Literal["event", "reference"], source: str) -> None:
            kind = feature_kind(column.type)
            name = name.replace(".", "__")
            if kind is None:
                others[name] = column
            else:
                put(FeaturePlan(name, "string" if kind == "string" else "double", origin, source, column.name))

        for ask in dict.fromkeys(model.ask for model in self.application.models.values()):
            for column in streams[ask].entry_arrow:
                if not column.name.startswith("_"):
                    add(column.name, column, "event", ask)
        for stream in streams.values():
            if stream.is_reference:
                for column in stream.user_arrow:
                    if column.name != stream.key:
                        add(f"{stream.name}__{column.name}", column, "reference", stream.name)
        for view in views:
            for aggregate in view.aggregates:
                put(FeaturePlan(aggregate.feature, "double", "view", view.name, aggregate.feature))
        wanted: set[str] = set()
        for name, model in self.application.models.items():
            for i, pattern in enumerate(model.features):
                if pattern not in self.matches:
                    matches = fnmatch.filter(features, pattern.replace(".", "__"))
                    # What an envelope says of a change (ids, places in a log) is a feature only where it is named.
                    named = PREFIX in pattern
                    self.matches[pattern] = frozenset(one for one in matches if named or not self._of_envelope(features[one], streams))
                plain = others.get(pattern.replace(".", "__"))
                if plain is not None:
                    expected = f"a column that can be a feature: {FEATURES}; {way_out(plain.name, plain.type)}"
                    raise self.document.error(("models", name, "features", i), expected, f"{pattern}, {plain.type}")
                if not self.matches[pattern]:
                    raise self.document.error(("models", name, "features", i), f"features among {', '.join(sorted(features))}", pattern)
                if both := sorted(twice.keys() & self.matches[pattern]):
                    expected = f"features with names of their own: {both[0]} would be {twice[both[0]]}"
                    raise self.document.error(("models", name, "features", i), expected, pattern)
                wanted.update(self.matches[pattern])
        return tuple(feature for name, feature in features.items() if name in wanted)

    def _check_weight(self, features: Sequence[FeaturePlan]) -> None:
        """Refuse more features than the record of a switch of views can name."""
        if (weighs := versions_bytes(features)) > MOST_VERSIONS_BYTES:
            most = (
                f"features of all models of at most {MOST_VERSIONS_BYTES:,} bytes, their names and 19 each, which a switch of views has in one record"
            )
            raise self.document.error(("models",), most, f"{len(features):,} features of {weighs:,} bytes")

    @staticmethod
    def _of_envelope(feature: FeaturePlan, streams: Mapping[str, StreamPlan]) -> bool:
        return feature.origin != "view" and streams[feature.source].envelope is not None and feature.column.startswith(f"{PREFIX}.")

    def _model(self, name: str, streams: dict[str, StreamPlan], views: tuple[ViewPlan, ...], features: tuple[FeaturePlan, ...]) -> ModelPlan:
        path: Path_ = ("models", name)
        model = self.application.models[name]
        label = model.label
        if label.stream not in streams or streams[label.stream].is_reference:
            raise self.document.error((*path, "label", "stream"), "an event stream", label.stream)
        columns = streams[label.stream].entry_arrow
        if label.join not in columns.names:
            raise self.document.error((*path, "label", "join"), f"a column of {label.stream}: {', '.join(columns.names)}", label.join)
        if not is_key(columns.field(label.join).type):
            raise self.document.error(
                (*path, "label", "join"), f"a column that identifies a request: {KEYS}", f"{label.join}, {columns.field(label.join).type}"
            )
        self._check_meeting((*path, "label", "join"), streams[model.ask], streams[model.ask].event_id, streams[label.stream], label.join)
        plan = label_plan(self.document, path, model, columns, self.expressions.compile)
        self._check_corrections(path, label, streams[label.stream])
        asked = frozenset[str]().union(*(self.matches[pattern] for pattern in model.features))
        chosen = [feature.name for feature in features if feature.name in asked]
        for i, column in enumerate(model.slices):
            if column not in streams[model.ask].entry_arrow.names:
                raise self.document.error((*path, "slices", i), f"a column of {model.ask}", column)
            if feature_kind(streams[model.ask].entry_arrow.field(column).type) is None:
                raise self.document.error((*path, "slices", i), f"a column with one value for each request: {FEATURES}", column)
        self._check_references(path, streams[model.ask], [streams[one.source] for one in features if one.name in asked and one.origin == "reference"])
        self._check_fairness(path, model, chosen)
        self._check_comparison(path, model)
        return ModelPlan(name, model.ask, tuple(chosen), plan, model, self._control(path, name, model))

    def _control(self, path: Path_, name: str, model: Model) -> ControlPlan | None:
        if model.control is None:
            return None
        place, sql = (*path, "control", "hidden_when"), model.control.hidden_when
        if model.kind == "regression":
            raise self.document.error((*path, "control"), "no control share (kind: regression): its intervals take labels as they come", "control")
        try:
            hidden = compile_expression(sql, ANSWER)
        except ExpressionError as error:
            raise self.document.error(place, f"a SQL expression over the answer ({', '.join(ANSWER.names)})", f"{sql!r}: {error}") from error
        if hidden.type != pa.bool_():
            raise self.document.error(place, "a truth value: which answers hide their label", f"{sql!r} of type {hidden.type}")
        return ControlPlan.of(self.application.app, name, model.control.share, hidden)

    def _check_references(self, path: Path_, ask: StreamPlan, references: Sequence[StreamPlan]) -> None:
        for reference in references:
            if reference.key in ask.entry_arrow.names:
                self._check_meeting((*path, "features"), ask, reference.key, reference, reference.key)

    def _check_meeting(self, place: Path_, ask: StreamPlan, asked: str | None, stream: StreamPlan, named: str) -> None:
        """Keys meet by their texts: where these differ for every value, nothing would ever be joined, in silence."""
        one, other = (ask.entry_arrow.field(asked).type if asked else pa.string()), stream.entry_arrow.field(named).type
        if not texts_meet(one, other):
            raise self.document.error(
                place, f"{named} of {stream.name} of a type that meets {asked} of {ask.name} ({one}): the same, or text", f"{named}, {other}"
            )

    def _check_fairness(self, path: Path_, model: Model, chosen: Sequence[str]) -> None:
        """Sensitive columns are judged where they are: among the features of a binary model."""
        if model.gate.fairness is None:
            return
        if model.kind != "binary":
            raise self.document.error((*path, "gate", "fairness"), "a binary model", f"kind: {model.kind}")
        for i, column in enumerate(model.gate.fairness.columns):
            if column not in chosen:
                raise self.document.error((*path, "gate", "fairness", "columns", i), "a feature of the model", column)

    def _check_comparison(self, path: Path_, model: Model) -> None:
        """Labels of several classes are neither higher nor lower, and those that an answer hides are those that it has influenced."""
        if model.stages.ab is None or model.stages.ab.metric != "label":
            return
        place = (*path, "stages", "ab", "metric")
        if model.kind == "multiclass":
            raise self.document.error(place, "loss: labels of several classes have no mean", "label")
        if model.control is not None:
            raise self.document.error(
                place, "loss: where acting on an answer hides its label (control), nobody knows what the answer has done", "label"
            )

    def _check_corrections(self, path: Path_, label: Label, stream: StreamPlan) -> None:
        """A correction that carries its request's id as its own event id is dropped as a duplicate before anybody sees it."""
        same = {label.join} | {name for name, expression in stream.derivations if expression.sql.strip() == label.join}
        if label.corrections == "last" and stream.event_id in same:
            raise self.document.error(
                (*path, "label", "corrections"),
                f"an event_id of {stream.name} that differs from one correction to the next: with {stream.event_id}, the request's id, the second"
                f" label is a duplicate and dropped; give the labels an id of their own (streams.{stream.name}.event_id), or say corrections: first",
                "last",
            )


def _origin(feature: FeaturePlan) -> str:
    """Say where a feature comes from."""
    return f"the view {feature.source}'s" if feature.origin == "view" else f"{feature.column} of {feature.source}"
