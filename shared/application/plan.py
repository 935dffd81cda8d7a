"""The application as the services need it: names resolved, expressions compiled, schemas generated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.shared.application.column_roles import doubles
from tidemill.shared.application.control_share import ControlPlan
from tidemill.shared.application.debezium import EnvelopePlan
from tidemill.shared.application.expressions import Expression
from tidemill.shared.application.model import Application, Model
from tidemill.shared.application.topics import Topics
from tidemill.shared.kinds import kind, kinds
from tidemill.shared.kinds.label_codes import LabelCodes
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.kinds.spelling import LONGEST_CLASS, class_names

WindowedKind = Literal["count", "sum", "mean", "variance", "std", "min", "max", "rate", "distinct", "quantile", "difference", "zscore"]
EverKind = Literal["first", "last", "lag", "time_since_first", "time_since_last", "decayed_sum", "decayed_count", "decayed_mean"]
Kind = Literal[WindowedKind, EverKind, "ratio"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ACCUMULATED: tuple[WindowedKind, ...] = get_args(WindowedKind)
"""Kinds over windows."""
EVER: tuple[EverKind, ...] = get_args(EverKind)
"""Kinds over everything so far."""


@dataclass(frozen=True, slots=True)
class ExpectationPlan:
    """A compiled expectation."""

    name: str
    check: Expression
    rejects: bool


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """One stream: what its records look like raw and in the journal.

    Attributes
    ----------
    allowed_skew_ms
        How far an event time may lie ahead of the record's availability.
    rejects_future
        What lies further ahead is a dead letter; else it is accepted and counted.
    rejects_non_finite
        A NaN or an infinity makes a dead letter; else it becomes null and is counted.
    pauses_on_flood
        When most of it is refused, nothing more of it is read until an operator resumes it; else it is worked off in short steps.
    envelope
        How the columns lie in a message where it is not simply a record of them.
    """

    name: str
    index: int
    topic: str
    is_reference: bool
    user_schema: str
    user_arrow: pa.Schema
    entry_schema: str
    entry_arrow: pa.Schema
    event_id: str | None
    event_time: str
    key: str
    allowed_lateness_ms: int
    deduplicate_within_ms: int
    max_age_ms: int | None
    derivations: tuple[tuple[str, Expression], ...]
    expectations: tuple[ExpectationPlan, ...]
    times: Mapping[str, str] = field(default_factory=dict)
    nulls: tuple[str, ...] = ()
    allowed_skew_ms: int = 300_000
    rejects_future: bool = True
    rejects_non_finite: bool = False
    pauses_on_flood: bool = False
    envelope: EnvelopePlan | None = None

    @property
    def wire_schema(self) -> str:
        """What is read of a raw message, Avro JSON."""
        return self.user_schema if self.envelope is None else self.envelope.wire_schema


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """A window as the engine sees it: hopping and tumbling windows are sliding ones that move in steps.

    Attributes
    ----------
    kind
        ``sliding`` is (now - length, now]; with a step both ends are rounded up to multiples of it. ``session``: `length_ms` is the longest gap.
    length_ms
        0 for ``all``.
    step_ms
        0: exact per event.
    text
        How it is written in feature names.
    """

    kind: Literal["sliding", "session", "all"]
    length_ms: int
    step_ms: int
    text: str


@dataclass(frozen=True, slots=True)
class AggregatePlan:
    """One number kept per entity.

    Attributes
    ----------
    window
        None for what is over everything by nature (last, decayed, ...).
    half_life_ms, half_life_events
        For decayed kinds, one of the two.
    value
        What is aggregated; None for kinds that look at records or times only. For ``distinct`` text is allowed.
    argument
        The quantile (0 to 1), or how many values back a ``lag`` lies.
    operands
        Features that a ``ratio`` divides.
    """

    kind: Kind
    feature: str
    window: WindowPlan | None = None
    half_life_ms: int | None = None
    half_life_events: float | None = None
    value: Expression | None = None
    argument: float = 0.0
    operands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JoinPlan:
    """Entities of a source record are those of the request in `stream` whose `request_column` equals the record's `column`."""

    stream: str
    request_column: str
    column: str
    within_ms: int


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """Aggregates of one source stream by one entity.

    Attributes
    ----------
    entity
        Name of the kind of entity; None: one state over all records.
    entity_columns
        The column that names the entity, by stream; the source's own is absent where a `join` finds it.
    ask_values
        What the asking event of a stream is compared with its own windows by (``difference``, ``zscore``).
    """

    name: str
    index: int
    entity: str | None
    source: str
    entity_columns: Mapping[str, str]
    join: JoinPlan | None
    event_time: bool
    where: Expression | None
    aggregates: tuple[AggregatePlan, ...]
    ttl_ms: int | None


@dataclass(frozen=True, slots=True)
class FeaturePlan:
    """One column of the vector."""

    name: str
    type: Literal["double", "string"]
    origin: Literal["event", "reference", "view"]
    source: str
    column: str


@dataclass(frozen=True, slots=True)
class LabelPlan:
    """How the truth is found and how long it is waited for.

    Attributes
    ----------
    value
        What a record says, as it says it.
    timeout_value
        The label that silence is, with ``on_timeout: value``.
    codes
        Which values are labels, where that is declared (classes, ``values``); else numbers and truth values are labels as they are, and of learned
        classes any value is one, by its text.
    """

    stream: str
    join: str
    value: Expression
    max_delay_ms: int
    on_timeout: str
    timeout_value: float
    corrections: str
    kind: kind.Kind
    codes: LabelCodes | None = None

    @property
    def expected(self) -> str:
        """What a label must be, in words for messages."""
        if self.codes is not None:
            return self.codes.expected
        return f"the name of a class, of 1 to {LONGEST_CLASS} characters," if self.kind.has_classes else self.kind.expected

    def labels(self, given: pa.Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the labels that values of the expression are, shape (n,), and which of the values are labels; NaN where one is none."""
        numbers = doubles(given) if self.codes is None else self.codes.decode(given)
        values: NDArray[np.float64] = numbers.to_numpy(zero_copy_only=False)
        return values, self.kind.is_label(values)

    def names(self, given: pa.Array) -> pa.Array:
        """Return the classes that values of the expression name where any value does; null where one is none."""
        return class_names(given)


AnyKind = kind.Kind
"""What a model answers; `Kind` is here what an aggregate computes."""


def declared_kind(model: Model) -> AnyKind:
    """Return a model's kind as the application file says it: with no class where the classes are learned."""
    return Multiclass((), is_learned=True) if model.learns_classes else kinds.kind_of(_Declared(model.kind, tuple(model.classes)))


class _Declared(NamedTuple):
    kind: str
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """One model: its columns of the vector, its label, and its control share if its answers hide labels.

    Attributes
    ----------
    learned
        Classes of a model that learns them, as far as whoever holds the plan knows them: of the version that it works with.
    """

    name: str
    ask: str
    features: tuple[str, ...]
    label: LabelPlan
    settings: Model
    control: ControlPlan | None = None
    learned: tuple[str, ...] = ()

    @property
    def learns_classes(self) -> bool:
        """Whether the classes are learned from the labels."""
        return self.settings.learns_classes

    @property
    def kind(self) -> kind.Kind:
        """What the model answers, and everything that depends on it."""
        return Multiclass(self.learned, is_learned=True) if self.learns_classes else declared_kind(self.settings)

    def with_classes(self, classes: Sequence[str]) -> "ModelPlan":
        """Return the plan of a model that has learned these classes; a model whose classes are declared stays as it is."""
        return replace(self, learned=tuple(classes)) if self.learns_classes else self

    def kind_of_version(self, version: AnyKind) -> AnyKind:
        """Return the kind that a version must have to serve: of learned classes those that it has."""
        return version if self.learns_classes and version.has_classes else self.kind


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the services need to know about an application."""

    application: Application
    application_hash: str
    topics: Topics
    streams: Mapping[str, StreamPlan]
    views: tuple[ViewPlan, ...]
    features: tuple[FeaturePlan, ...]
    vector_schema: str
    vector_arrow: pa.Schema
    models: Mapping[str, ModelPlan]

    @property
    def asking_streams(self) -> Sequence[str]:
        """Streams whose events are requests, in the order of the file."""
        asked = {model.ask for model in self.models.values()}
        return [name for name in self.streams if name in asked]

    @property
    def reference_streams(self) -> Sequence[StreamPlan]:
        """Streams that are state by key."""
        return [stream for stream in self.streams.values() if stream.is_reference]
