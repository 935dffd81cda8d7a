"""The application as its authors write it: frozen models, one per noun of the file."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from shared.avro.times import parse_time_format

UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
DURATION_PATTERN = r"^(\d+(?:\.\d+)?)(ms|s|m|h|d)$"
_DURATION = re.compile(DURATION_PATTERN)
_EVENTS = re.compile(r"^(\d+(?:\.\d+)?) (events?|labels?)$")


def parse_duration(text: Any) -> int:  # noqa: ANN401, RUF100 - whatever stands in the file
    """Return milliseconds for ``30s``, ``15m``, ``3h``, ``7d``.

    >>> parse_duration("3h")
    10800000
    """
    match = _DURATION.match(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"a duration such as 30s, 15m, 3h or 7d, found {text!r}")
    return round(float(match[1]) * UNITS_MS[match[2]])


def parse_half_life(text: Any) -> tuple[int | None, float | None]:  # noqa: ANN401, RUF100
    """Return a half-life in milliseconds or in events; exactly one of the two is not None.

    >>> parse_half_life("6h"), parse_half_life("30 events")
    ((21600000, None), (None, 30.0))
    """
    match = _EVENTS.match(text) if isinstance(text, str) else None
    if match is not None and float(match[1]) > 0:
        return None, float(match[1])
    try:
        duration = parse_duration(text)
    except ValueError:
        duration = 0
    if duration <= 0:
        raise ValueError(f"a half-life such as 6h or 30 events, found {text!r}")
    return duration, None


_DurationText = Annotated[str, Field(pattern=DURATION_PATTERN, examples=["30s", "15m", "3h", "7d"])]
Duration = Annotated[int, BeforeValidator(parse_duration, json_schema_input_type=_DurationText)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Owner = Annotated[str, Field(min_length=1)]
TimeFormat = Annotated[str, AfterValidator(parse_time_format), Field(examples=["seconds", "%Y%m%d"])]
Columns = Annotated[
    tuple[str, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given, json_schema_input_type=str | tuple[str, ...])
]
Fate = Literal["skip", "reject", "event"]
Section = Literal["streams", "views", "models"]
Topology = Literal["fused", "separate"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Owned(_Frozen):
    """A part that a team answers for; without an owner of its own, the application's. Who answers for a part does not change what it computes."""

    owner: Owner | None = Field(default=None, exclude=True)


class Expectation(_Frozen):
    """A condition every record should meet; a record for which it is not true is rejected or flagged."""

    name: str
    check: str
    otherwise: Literal["reject", "flag"] = "reject"


class Deduplication(_Frozen):
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
    derive: dict[Name, str] = {}
    expect: tuple[Expectation, ...] = ()
    times: dict[str, TimeFormat] = {}
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


class Entity(_Frozen):
    """Something features are kept about, and the column that names it in each stream."""

    columns: dict[str, str] = Field(alias="from", min_length=1)
    ttl: Duration | None = None


class Window(_Frozen):
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


class Join(_Frozen):
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


class Label(_Frozen):
    """Where the truth comes from and how long it is waited for."""

    stream: Name
    join: str
    value: str
    max_delay: Duration
    on_timeout: Literal["unlabelled", "negative", "value"] = "unlabelled"
    timeout_value: float = 0.0
    corrections: Literal["first", "last"] = "first"


class Fallback(_Frozen):
    """What is answered when no model can, or when it would come too late.

    Attributes
    ----------
    latency_limit
        Milliseconds that a request may have waited when it comes to be scored; without it the model answers however late it is.
    """

    default: float
    latency_limit: Annotated[Duration, Field(gt=0)] | None = None


class Training(_Frozen):
    """The search: families, trials, windows of history (days; 0 means all).

    Attributes
    ----------
    min_positives
        Rows that each class needs wherever something is learned or judged: training, each window of history, validation, gate.
    max_duration
        A training that takes longer is ended and has failed.
    """

    families: tuple[Literal["logistic_regression", "lightgbm"], ...] = ("logistic_regression", "lightgbm")
    trials: int = Field(default=6, ge=1)
    windows_days: tuple[int, ...] = (0, 60)
    holdout_days: int = Field(default=7, ge=1)
    min_rows: int = Field(default=1_000, ge=10)
    min_positives: int = Field(default=10, ge=2)
    max_duration: Annotated[Duration, Field(gt=0)] = parse_duration("1h")
    seed: int = 7


class RetrainingPolicy(_Frozen):
    """When a retraining is worth asking for; times are journal time."""

    bootstrap_labels: int = Field(default=5_000, ge=10)
    cool_down: Duration = parse_duration("3d")
    schedule: Duration | None = parse_duration("30d")
    budget_per_30d: int = Field(default=10, ge=1)


class Gate(_Frozen):
    """How sure a candidate's advantage must be."""

    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    min_rows: int = Field(default=500, ge=10)


class DriftPolicy(_Frozen):
    """Bounds of the detectors."""

    false_alarm_days: int = Field(default=3650, ge=10)
    adwin_delta: float = Field(default=0.002, gt=0, lt=1)
    psi: float = Field(default=0.2, gt=0)
    missing_shift: float = Field(default=0.1, gt=0, le=1)
    min_auc: float | None = None


class Model(Owned):
    """A question asked of a stream."""

    kind: Literal["binary", "regression"] = "binary"
    ask: Name
    features: tuple[str, ...] = Field(min_length=1)
    label: Label
    slices: tuple[str, ...] = ()
    fallback: Fallback
    threshold: float = 0.5
    training: Training = Training()
    retraining: RetrainingPolicy = RetrainingPolicy()
    gate: Gate = Gate()
    drift: DriftPolicy = DriftPolicy()


AlertSource = Literal["drift", "health", "decisions", "retraining", "deployments", "rejected", "progress"]
AlertSeverity = Literal["info", "warning", "critical"]
LEVELS: tuple[AlertSource, ...] = ("health", "progress")
ALWAYS_THERE = ("log", "topic")
WhichRules = Annotated[tuple[str, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given)]


class AlertRule(Owned):
    """A condition over the records of a public topic that people are told of.

    Records of ``health`` and ``progress`` are levels: the newest one of its group says whether the condition holds; so are all of a rule whose
    condition names ``age_s``. Those of the other topics are events: each one for which the condition is true counts, and the alert is over when
    none has come for `resolve_after`.

    Attributes
    ----------
    where
        Which records concern the rule at all; the others neither raise nor resolve it.
    holds
        How long a level must stand before the alert fires.
    by
        Columns that tell one alert from another; by default those of the topic.
    repeat
        The cool-down: how long after a notification the next one of the same alert may come.
    once
        Each record is an information of its own: told once, never repeated nor resolved.
    """

    on: AlertSource
    where: str | None = None
    when: str
    holds: Duration = Field(default=0, alias="for")
    severity: AlertSeverity = "warning"
    channels: tuple[Name, ...] = ()
    by: Columns = ()
    repeat: Annotated[Duration, Field(gt=0)] = parse_duration("4h")
    resolve_after: Annotated[Duration, Field(gt=0)] = parse_duration("1d")
    once: bool = False
    summary: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "AlertRule":
        if self.on not in LEVELS and self.holds:
            raise ValueError(f"no for: records of {self.on} are events, which do not last; for is for {' and '.join(LEVELS)}")
        if self.on in LEVELS and self.once:
            raise ValueError(f"no once: records of {self.on} are levels, which last")
        return self


class AlertChannel(_Frozen):
    """A way to people beside the log and the topic. Addresses with secrets in them, keys and passwords come by environment.

    Attributes
    ----------
    format
        Body of a webhook.
    severity
        The least that is sent.
    in_replay
        Whether a replay sends, too.
    """

    kind: Literal["webhook", "mail"]
    format: Literal["tidemill", "slack", "alertmanager"] = "tidemill"
    to: Columns = ()
    sender: str | None = Field(default=None, alias="from")
    severity: AlertSeverity = "info"
    in_replay: bool = False

    @model_validator(mode="after")
    def _complete(self) -> "AlertChannel":
        if self.kind == "mail" and (not self.to or self.sender is None):
            raise ValueError("to and from: the addresses of a mail")
        if self.kind == "webhook" and (self.to or self.sender):
            raise ValueError("no to and from: a webhook's address comes by environment, TIDEMILL_ALERTS__WEBHOOKS")
        return self


class Mute(_Frozen):
    """Alerts that go to log and topic only, for a time or for good.

    Attributes
    ----------
    rules
        Names of rules; ``*`` stands for anything.
    since, until
        Without an offset: UTC.
    """

    rules: WhichRules = Field(min_length=1)
    since: datetime | None = Field(default=None, alias="from")
    until: datetime | None = None

    def holds_at(self, time_ms: int) -> bool:
        """Whether it is in force at an instant."""
        return (self.since is None or milliseconds(self.since) <= time_ms) and (self.until is None or time_ms < milliseconds(self.until))


def milliseconds(instant: datetime) -> int:
    """Return an instant in milliseconds since 1970; without an offset it is UTC."""
    return round((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp() * 1000)


class Alerts(_Frozen):
    """What people are told, and how. It changes nothing of what is computed.

    Attributes
    ----------
    defaults
        Whether the rules that every application has are in force.
    off
        Names of such rules that are not; ``*`` stands for anything.
    group_wait
        How long notifications of one rule are gathered into one message of a webhook or mail.
    """

    defaults: bool = True
    off: WhichRules = ()
    rules: dict[Name, AlertRule] = {}
    channels: dict[Name, AlertChannel] = {}
    mute: tuple[Mute, ...] = ()
    group_wait: Duration = parse_duration("10s")

    @model_validator(mode="after")
    def _named(self) -> "Alerts":
        for name in self.channels:
            if name in ALWAYS_THERE:
                raise ValueError(f"channels: {name} is there always")
        for name, rule in self.rules.items():
            if unknown := [channel for channel in rule.channels if channel not in (*ALWAYS_THERE, *self.channels)]:
                raise ValueError(f"rules.{name}.channels: one of {', '.join((*ALWAYS_THERE, *self.channels))}, found {unknown[0]}")
        return self


class Application(_Frozen):
    """Everything a team writes down."""

    app: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    owner: Owner
    partition_by: str
    partitions: int = Field(default=1, ge=1)
    topology: Topology = "fused"
    streams: dict[Name, Stream] = Field(min_length=1)
    entities: dict[Name, Entity] = {}
    views: dict[Name, AnyView] = {}
    models: dict[Name, Model] = {}
    alerts: Alerts = Alerts()

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
