"""The application as the services need it: names resolved, expressions compiled, schemas generated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from shared.application.expressions import Expression
from shared.application.model import Application, Model
from shared.application.topics import Topics

WINDOWED = ("count", "sum", "mean", "std", "min", "max")
Kind = Literal["count", "sum", "mean", "std", "min", "max", "last", "time_since_last", "decayed_mean"]


@dataclass(frozen=True, slots=True)
class ExpectationPlan:
    """A compiled expectation."""

    name: str
    check: Expression
    rejects: bool


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """One stream: what its records look like raw and in the journal."""

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
    max_age_ms: int | None
    derivations: tuple[tuple[str, Expression], ...]
    expectations: tuple[ExpectationPlan, ...]


@dataclass(frozen=True, slots=True)
class AggregatePlan:
    """One number kept per entity.

    Attributes
    ----------
    window_ms
        Length of the sliding window; None over the whole history.
    half_life_ms
        For decayed means.
    value
        What is aggregated; None for `count` and `time_since_last` of records.
    """

    kind: Kind
    window_ms: int | None
    half_life_ms: int | None
    value: Expression | None
    feature: str


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """Aggregates of one source stream by one entity; `ask_columns` names the entity in each asking stream."""

    name: str
    index: int
    entity: str
    source: str
    source_column: str
    ask_columns: Mapping[str, str]
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
    """How the truth is found and how long it is waited for."""

    stream: str
    join: str
    value: Expression
    max_delay_ms: int
    on_timeout: str
    timeout_value: float
    corrections: str


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """One model: its columns of the vector and its label."""

    name: str
    ask: str
    features: tuple[str, ...]
    label: LabelPlan
    settings: Model


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
