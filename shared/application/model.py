"""The application as its authors write it: frozen models, one per noun of the file."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from tidemill.shared.application.alerts import Alerts
from tidemill.shared.application.drift_policy import DriftPolicy
from tidemill.shared.application.families import FAMILIES, supports
from tidemill.shared.application.gate_policy import Gate
from tidemill.shared.application.stages import Stages
from tidemill.shared.application.stream_definition import Stream
from tidemill.shared.application.topics import EVERY_APPLICATIONS, STAGES
from tidemill.shared.application.training_policy import RetrainingPolicy, Training
from tidemill.shared.application.values import Duration, Frozen, Name, Owned, Owner
from tidemill.shared.application.view_definition import AnyView, Entity
from tidemill.shared.detectors.catalogue import CATALOGUE, DetectorChoice, read_choices
from tidemill.shared.kinds.spelling import LONGEST_CLASS, spelled

Section = Literal["streams", "views", "models"]
Topology = Literal["fused", "separate"]
ClassName = Annotated[str, Field(min_length=1, max_length=LONGEST_CLASS), BeforeValidator(spelled, json_schema_input_type=str | int | bool)]
"""A class, or a value that a label has in the data: a number or a truth value is its text."""
LEARNED: Literal["learned"] = "learned"
"""In place of the classes: those that the labels turn out to have."""
Meaning = Annotated[float | str, BeforeValidator(lambda given: spelled(given) if isinstance(given, bool) else given)]
"""A label or a score as it is written: a number, or a class."""


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
        A probability (binary), a value (regression), a class or a probability for each class (multiclass). None with learned classes: no class is
        answered.
    latency_limit
        Milliseconds that a request may have waited when it comes to be scored; without it the model answers however late it is.
    """

    default: Meaning | dict[ClassName, float] | None = None
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
        The answers of a multiclass model. Their order is what labels and scores are numbered by, so it stays. ``learned``: those with
        `training.min_positives` labels when the first model is trained, to which later trainings add.
    explain
        None: its predictions are not explained on a topic. It changes nothing that others compute, so it is no part of the application's hash.
    """

    kind: Literal["binary", "multiclass", "regression"] = "binary"
    classes: tuple[ClassName, ...] | Literal["learned"] = ()
    ask: Name
    features: tuple[str, ...] = Field(min_length=1)
    label: Label
    slices: tuple[str, ...] = ()
    fallback: Fallback = Fallback()
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
    def learns_classes(self) -> bool:
        """Whether the classes are learned from the labels."""
        return self.classes == LEARNED

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

    app: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=100)]
    owner: Owner
    partition_by: str
    partitions: int = Field(default=1, ge=1, le=10_000)
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
