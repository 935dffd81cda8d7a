"""What drift detection says: findings and health figures, each with the journal coordinates it follows from."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Kind = Literal[
    "loss", "quality", "bootstrap", "feature", "prediction", "missing", "range", "category", "units", "volume", "freshness", "labels", "label_share",
    "label_delay", "schema_change", "unknown_class", "new_class", "label_volume",
]  # fmt: skip
Severity = Literal["info", "warning", "alarm"]


class Coordinates(NamedTuple):
    """Where in the journal something follows from, in merge order."""

    time_ms: int
    partition: int
    offset: int


def condition_of(subject: str, part: str) -> str:
    """Return the name of a condition.

    >>> condition_of("weight", "country=de")
    'weight in country=de'
    """
    return f"{subject} in {part}" if part else subject


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding about data, predictions or quality (`tidemill.Drift`).

    Attributes
    ----------
    part
        Slice that it is about, ``column=value``; empty for the whole.
    columns
        Of a change of schema: the stream's columns that it concerns; not part of the record.
    """

    model: str
    at: Coordinates
    kind: Kind
    subject: str
    detector: str
    severity: Severity
    statistic: float
    threshold: float
    detail: str
    evidence: Mapping[str, float] = field(default_factory=dict)
    part: str = ""
    columns: tuple[str, ...] = ()

    @property
    def condition(self) -> str:
        """What the finding's condition is about: its subject, in its slice only if it has one."""
        return condition_of(self.subject, self.part)

    @property
    def drift_id(self) -> str:
        """Digest of what was found where: the same journal gives the same id."""
        text = "\x1f".join(map(str, (self.model, *self.at, self.kind, self.subject, self.detector, *([self.part] if self.part else []))))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def record(self) -> dict[str, Any]:
        """Fields of the Avro record."""
        return {
            "drift_id": self.drift_id,
            "model": self.model,
            "journal_partition": self.at.partition,
            "journal_offset": self.at.offset,
            "journal_time": self.at.time_ms,
            "kind": self.kind,
            "subject": self.subject,
            "slice": self.part,
            "detector": self.detector,
            "severity": self.severity,
            "statistic": self.statistic,
            "threshold": self.threshold,
            "evidence": dict(self.evidence),
            "detail": self.detail,
        }


@dataclass(frozen=True, slots=True)
class HealthRecord:
    """Metrics of one model over one window of journal time (`tidemill.Health`), and of its slices; what is undefined is absent."""

    model: str
    at: Coordinates
    window_start_ms: int
    window_end_ms: int
    model_version: str
    metrics: Mapping[str, float]
    slices: Sequence[Mapping[str, Any]] = ()

    def record(self) -> dict[str, Any]:
        """Fields of the Avro record."""
        return {
            "model": self.model,
            "journal_partition": self.at.partition,
            "journal_offset": self.at.offset,
            "journal_time": self.at.time_ms,
            "window_start": self.window_start_ms,
            "window_end": self.window_end_ms,
            "model_version": self.model_version,
            "metrics": dict(self.metrics),
            "slices": list(self.slices),
        }
