"""The application as its authors write it: frozen models, one per noun of the file."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from tidemill.shared.application.alerts import Alerts
from tidemill.shared.application.drift_policy import DriftPolicy
from tidemill.shared.application.families import FAMILIES, supports
from tidemill.shared.application.gate_policy import Gate
from tidemill.shared.application.stages import Stages
from tidemill.shared.application.topics import EVERY_APPLICATIONS, STAGES
from tidemill.shared.application.training_policy import RetrainingPolicy, Training
from tidemill.shared.application.values import Columns, Duration, Frozen, Name, Owned, Owner, TimeFormat, parse_duration
from tidemill.shared.detectors.catalogue import CATALOGUE, DetectorChoice, read_choices
from tidemill.shared.kinds.spelling import spelled

Fate = Literal["skip", "reject", "event"]
Section = Literal["streams", "views", "models"]
Topology = Literal["fused", "separate"]
ClassName = Annotated[str, Field(min_length=1, max_length=200), BeforeValidator(spelled, json_schema_input_type=str | int | bool)]
"""A class, or a value that a label has in the data: a number or a truth value is its text."""
Meaning = Annotated[float | str, BeforeValidator(lambda given: spelled(given) if isinstance(given, bool) else given)]
"""A label or a score as it is written: a number, or a class."""


class Expectation(Frozen):
    """A condition every record should meet; a record for which it is not true is rejected or flagged."""

    name: str
    check: str
    otherwise: Literal["reject", "flag"] = "reject"


class Deduplication(Frozen):
    """How long a copy of an event may come after it and still be recognised, in journal time. Ids are kept for that long."""

    within: Duration


class Stream(Owned):
    """One raw topic. A reference stream is state by key (weather at an airport); an event stream is a sequence of facts.

    Attributes
    ----------
    times
        How columns of times are written in JSON and in files, where no Avro schema says it.
    nulls
        Texts of a CSV file that mean that there is no value; an empty cell always does.
    envelope
        ``debezium``: records are changes of a table's rows, and the columns are those of the row.
    primary_key
        Debezium: the table's columns that identify a row.
    updates, deletes
        Debezium, event streams: whether a changed or a deleted row is an event.
    decimals
        Debezium in JSON: what a text in a column of decimals is.
    """

    topic: str
    schema_file: str = Field(alias="schema")
    kind: Literal["event", "reference"] = "event"
    event_id: str | None = None
    event_time: str | None = None
    key: str | None = None
    allowed_lateness: Duration = 0
    allowed_skew: Duration = parse_duration("5m")
    future: Literal["reject", "flag"] = "reject"
    non_finite: Literal["null", "reject"] = "null"
    on_flood: Literal["throttle", "pause"] = "throttle"
    deduplicate: Deduplication | None = None
    max_age: Duration | None = None
    derive: dict[Name, str] = Field(default={})
    expect: tuple[Expectation, ...] = ()
    times: dict[str, TimeFormat] = Field(default={})
    nulls: tuple[str, ...] = ()
    envelope: Literal["debezium"] | None = None
    primary_key: Columns = ()
    updates: Fate | None = None
    deletes: Fate | None = None
    decimals: Literal["base64", "number"] | None = None

    @model_validator(mode="after")
    def _complete(self) -> "Stream":
        if self.envelope is None:
            for name in ("primary_key", "updates", "deletes", "decimals"):
                if getattr(self, name):
                    raise ValueError(f"no {name} without envelope: debezium")
        elif self.kind == "reference" and (self.updates or self.deletes or self.primary_key):
            raise ValueError("no updates, deletes or primary_key: a reference stream has one row by key, which updates replace and deletions delete")
        if self.event_time is None and self.envelope is None:
            raise ValueError("event_time: the column that says when it happened")
        if self.kind == "event" and self.event_id is None and not self.primary_key:
            if self.envelope is not None:
                raise ValueError("event_id, or primary_key: the table's columns that identify a row; then debezium.id identifies the change")
            raise ValueError("event_id: the column that identifies an event")
        if self.kind == "reference" and (self.key is None or self.max_age is None):
            raise ValueError("key and max_age: how a reference row is found and how long it is good")
        if self.kind == "reference" and self.deduplicate is not None:
            raise ValueError("no deduplicate: a row of a reference stream replaces the one before it")
        return self


class Entity(Frozen):
    """Something features are kept about, and the column that names it in each stream."""

    columns: dict[str, str] = Field(alias="from", min_length=1)
    ttl: Duration | None = None


class Window(Frozen):
    """What part of the past an aggregate looks at; written ``3h`` (sliding), ``all``, or as a mapping.

    ``{sliding: 24h, resolution: 1h}`` slides in steps of its resolution, ``{tumbling: 1h}`` is the running hour, ``{hopping: 1h, every: 10m}``
    the hour that closes next, ``{session: 30m}`` the events up to now with no gap longer than that.
    """

    sliding: Duration | None = None
    resolution: Duration | None = None
    tumbling: Duration | None = None
    hopping: Duration | None = None
    every: Duration | None = None
    session: Duration | None = None
    all: bool = False

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:  # noqa: ANN401, RUF100 - whatever stands in the file
        if given == "all":
            return {"all": True}
        return given if isinstance(given, dict) else {"sliding": given}

    @model_validator(mode="after")
    def _one_kind(self) -> "Window":
        lengths = [length for length in (self.sliding, self.tumbling, self.hopping, self.session) if length is not None]
        if len(lengths) + self.all != 1 or any(length <= 0 for length in lengths):
            raise ValueError("one window, longer than nothing: a duration, all, or {sliding|tumbling|hopping|session: a duration}")
        if (self.every is None) != (self.hopping is None):
            raise ValueError("hopping and every together: {hopping: 1h, every: 10m}")
        if self.resolution is not None and self.sliding is None:
            raise ValueError("resolution with a sliding window: {sliding: 24h, resolution: 1h}")
        for step, length in ((self.every, self.hopping), (self.resolution, self.sliding)):
            if step is not None and length is not None and (step <= 0 or length % step):
                raise ValueError(f"a step that divides the window: {length} ms is not a multiple of {step} ms")
        return self


class Join(Frozen):
    """Where a source record's entities stand when it carries nothing but a request's id: on the request itself.

    Attributes
    ----------
    stream
        The stream of the requests; `on_request` is its column with the id (by default its event id).
    on
        The source's column with the id.
    within
        How long a request is remembered, in journal time.
    """

    stream: Name
    on: str
    on_request: str | None = None
    within: Duration


class View(Owned):
    """Aggregates of one stream per entity. Without `entity` it is over all records.

    Attributes
    ----------
    time
        Where a record stands in the windows: at its event time (but not after its journal time), or at its journal time, when it became known.
    resolution
        Step of the view's sliding windows that declare none; without it they are exact per event.
    """

    entity: Name | None = None
    source: Name
    join: Join | None = None
    time: Literal["event", "journal"] = "event"
    value: str | None = None
    where: str | None = None
    aggregate: tuple[str | dict[str, Any], ...] = Field(min_length=1)
    windows: tuple[Window, ...] = ()
    resolution: Duration | None = None


class LabelRates(Owned):
    """Decayed rates of a model's label, per value of columns of its requests and over all: outcome feedback in one line.

    Attributes
    ----------
    by
        Columns of the asking stream; ``all`` is every request together.
    half_lives
        In time or in labels.
    """

    label: Name
    by: tuple[str, ...] = Field(min_length=1)
    half_lives: tuple[str, ...] = Field(min_length=1)


VIEW_KINDS = ("view", "label_rates")


def _view_kind(given: Any) -> str:  # noqa: ANN401, RUF100 - whatever stands in the file
    return "label_rates" if isinstance(given, LabelRates) or (isinstance(given, dict) and "label" in given) else "view"


AnyView = Annotated[Annotated[View, Tag("view")] | Annotated[LabelRates, Tag("label_rates")], Discriminator(_view_kind)]


class Label(Frozen):
    """Where the truth comes from and how long it is waited for.

    Attributes
    ----------
    values
        What the values of the expression mean, where they are not labels themselves: ``{"yes": 1, "no": 0}``, ``{1: 0, 2: 1}``, a class by value.
    timeout_value
        The label that silence is; of a multiclass model a class.
    """

    stream: Name
    join: str
    value: str
    values: dict[ClassName, Meaning] = Field(default={})
    max_delay: Duration
    on_timeout: Literal["unlabelled", "negative", "value"] = "unlabelled"
    timeout_value: Meaning = 0.0
    corrections: Literal["first", "last"] = "first"


class Fallback(Frozen):
    """What is answered when no model can, or when it would come too late.

    Attributes
    ----------
    default
        A probability (binary), a value (regression), a class or a probability for each class (multiclass).
    latency_limit
        Milliseconds that a request may have waited when it comes to be scored; without it the model answers however late it is.
    """

    default: Meaning | dict[ClassName, float]
    latency_limit: Annotated[Duration, Field(gt=0)] | None = None


class Control(Frozen):
    """A share of the requests whose answers nobody acts on, because acting on one hides its label.

    Attributes
    ----------
    share
        Of all requests, each drawn by the hash of its id.
    hidden_when
        SQL over `score`, `predicted`, `predicted_label`, `lower` and `upper`: which answers hide their label when they are acted on.
    """

    share: float = Field(gt=0, lt=1)
    hidden_when: str


class Card(Frozen):
    """What a model is for, in words: they stand on its card and in the registry.

    Attributes
    ----------
    intended_use
        Who asks it, and what is decided by the answer.
    limitations
        What it must not be used for, and where it is known to be wrong.
    """

    intended_use: str = ""
    limitations: tuple[str, ...] = ()


class Explain(Frozen):
    """What is published of why a prediction has its score.

    Attributes
    ----------
    top
        How many features are named, those that added or took most; the others are summed up.
    """

    top: int = Field(default=5, ge=1, le=100)


class Model(Owned):
    """A question asked of a stream.

    Attributes
    ----------
    classes
        The answers of a multiclass model. Their order is what labels and scores are numbered by, so it stays.
    explain
        None: its predictions are not explained on a topic. It changes nothing that others compute, so it is no part of the application's hash.
    """

    kind: Literal["binary", "multiclass", "regression"] = "binary"
    classes: tuple[ClassName, ...] = ()
    ask: Name
    features: tuple[str, ...] = Field(min_length=1)
    label: Label
    slices: tuple[str, ...] = ()
    fallback: Fallback
    control: Control | None = None
    threshold: float = 0.5
    training: Training = Training()
    retraining: RetrainingPolicy = RetrainingPolicy()
    gate: Gate = Gate()
    stages: Stages = Stages()
    drift: DriftPolicy = DriftPolicy()
    explain: Explain | None = None
    card: Card = Card()

    @property
    def detectors(self) -> tuple[DetectorChoice, ...]:
        """Detectors on labels; of the default ones those that can take what the model's kind gives."""
        return tuple(one for one in read_choices(self.drift.detectors) if self.kind != "regression" or not one.bits)

    @model_validator(mode="after")
    def _takes(self) -> "Model":
        if self.kind == "regression" and "detectors" in self.drift.model_fields_set:
            bits = [one.name for one in read_choices(self.drift.detectors) if one.bits]
            if bits:
                others = ", ".join(name for name, known in CATALOGUE.items() if not known.bits)
                raise ValueError(f"drift.detectors: {bits[0]} takes right and wrong (0 and 1), a regression gives losses: expected {others}")
        return self

    @model_validator(mode="after")
    def _learnable(self) -> "Model":
        for family in self.training.families:
            if not supports(family, self.kind):
                able = ", ".join(name for name in FAMILIES if supports(name, self.kind))
                raise ValueError(f"training.families: families that learn a model of kind {self.kind} ({able}), not {family}")
        return self


class Application(Frozen):
    """Everything a team writes down."""

    app: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    owner: Owner
    partition_by: str
    partitions: int = Field(default=1, ge=1)
    topology: Topology = "fused"
    streams: dict[Name, Stream] = Field(min_length=1)
    entities: dict[Name, Entity] = Field(default={})
    views: dict[Name, AnyView] = Field(default={})
    models: dict[Name, Model] = Field(default={})
    alerts: Alerts = Alerts()

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages that run: explanations where a model asks for them, all others always."""
        asked = any(model.explain is not None for model in self.models.values())
        return STAGES if asked else EVERY_APPLICATIONS

    def owner_of(self, section: Section, name: str) -> str:
        """Return who answers for a stream, view or model."""
        part: Owned = getattr(self, section)[name]
        return part.owner or self.owner

    def parts_by_owner(self) -> dict[str, dict[Section, list[str]]]:
        """Return the names of streams, views and models by who answers for them; the application's owner comes first."""
        owners: dict[str, dict[Section, list[str]]] = {self.owner: {}}
        sections: tuple[Section, ...] = ("streams", "views", "models")
        for section in sections:
            for name in getattr(self, section):
                owners.setdefault(self.owner_of(section, name), {}).setdefault(section, []).append(name)
        return owners
