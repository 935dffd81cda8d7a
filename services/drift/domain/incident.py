"""An incident: what its findings say together, and what is told of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tidemill.services.drift.domain.findings import Coordinates, Finding, Severity

Status = Literal["open", "ongoing", "resolved"]
IncidentChange = Literal["opened", "joined", "worse", "resolved"]
Key = tuple[str, str]
"""Kind and condition of a finding."""
CALM_WINDOWS = 3
"""An incident is over after so many quiet windows."""
RANK: Mapping[Severity, int] = {"info": 0, "warning": 1, "alarm": 2}
_FINDINGS_KEPT = 100


@dataclass(frozen=True, slots=True)
class IncidentUpdate:
    """What is said of an incident at one place of the journal (`tidemill.Incident`)."""

    at: Coordinates
    fields: Mapping[str, Any]

    @property
    def model(self) -> str:
        """Its model, the record's key."""
        return str(self.fields["model"])

    def record(self) -> dict[str, Any]:
        """Fields of the Avro record."""
        where = {"journal_partition": self.at.partition, "journal_offset": self.at.offset, "journal_time": self.at.time_ms}
        return {**self.fields, **where}


@dataclass(slots=True)
class Incident:
    """An open incident.

    Attributes
    ----------
    nodes
        What its findings have in common: columns, views and streams by which another finding belongs to it.
    calm
        Windows in a row in which each condition was below half of its bound.
    worst
        Largest statistic over bound so far.
    ended
        Stream that it comes from, where whoever feeds it had said that it has ended; empty otherwise.
    """

    incident_id: str
    model: str
    root: str
    opened: Coordinates
    opened_as: Severity
    nodes: set[str]
    severity: Severity = "info"
    last_ms: int = 0
    number: int = 0
    count: int = 0
    worst: float = 0.0
    findings: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    evidence: dict[str, float] = field(default_factory=dict)
    calm: dict[Key, int] = field(default_factory=dict)
    ended: str = ""

    @property
    def kinds(self) -> list[str]:
        """Kinds of its findings, in their order."""
        return list(dict.fromkeys(kind for kind, _ in self.calm))

    @property
    def is_over(self) -> bool:
        """Whether every condition has been quiet for three windows."""
        return all(windows >= CALM_WINDOWS for windows in self.calm.values())

    def add(self, finding: Finding) -> None:
        """Take a finding."""
        self.count, self.last_ms = self.count + 1, finding.at.time_ms
        self.calm[(finding.kind, finding.condition)] = 0
        self.findings = [*self.findings, finding.drift_id][-_FINDINGS_KEPT:]
        self.severity = max(self.severity, finding.severity, key=RANK.__getitem__)
        weight = finding.statistic / finding.threshold if finding.threshold > 0 else finding.statistic
        if not self.details or weight > self.worst:
            self.worst, self.evidence = weight, dict(finding.evidence)
        self.details = [*self.details, finding.detail][-_FINDINGS_KEPT:]

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists, texts and numbers."""
        own = {name: getattr(self, name) for name in self.__slots__}
        return {**own, "opened": list(self.opened), "nodes": sorted(self.nodes), "calm": [[*key, windows] for key, windows in self.calm.items()]}

    @staticmethod
    def load(state: Mapping[str, Any]) -> "Incident":
        """From a snapshot."""
        calm = {(kind, subject): windows for kind, subject, windows in state["calm"]}
        return Incident(**{**state, "opened": Coordinates(*state["opened"]), "nodes": set(state["nodes"]), "calm": calm})
