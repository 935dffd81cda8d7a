"""Every topic name of an application, made in one place."""

from dataclasses import dataclass

STAGES = ("ingestion", "features", "scoring", "outcomes", "explanations", "drift", "control", "retraining", "archive")
EVERY_APPLICATIONS = tuple(stage for stage in STAGES if stage != "explanations")
"""Stages that run whatever an application declares."""


@dataclass(frozen=True, slots=True)
class TopicUse:
    """What a part of the system that is no stage reads and writes, raw topics excepted."""

    reads: frozenset[str]
    writes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Topics:
    """Names of an application's topics, as in ``schemas/topics.yaml``."""

    app: str
    raw: tuple[str, ...]

    @property
    def journal(self) -> str:
        """Ordered, cleaned input."""
        return f"{self.app}-journal"

    @property
    def rejected(self) -> str:
        """Dead letters."""
        return f"{self.app}-rejected"

    @property
    def replayed(self) -> str:
        """Marks of dead letters whose originals were published again."""
        return f"{self.app}-replayed"

    @property
    def duplicates(self) -> str:
        """Addresses of dropped copies."""
        return f"{self.app}-duplicates"

    @property
    def late(self) -> str:
        """Copies of late records."""
        return f"{self.app}-late"

    @property
    def schema_changes(self) -> str:
        """How streams' records come to be written otherwise."""
        return f"{self.app}-schema-changes"

    @property
    def stream_ends(self) -> str:
        """Where streams ended, by the word of whoever feeds them, and where they go on."""
        return f"{self.app}-stream-ends"

    @property
    def vectors(self) -> str:
        """Feature vectors, one per request."""
        return f"{self.app}-vectors"

    @property
    def view_switches(self) -> str:
        """Where vectors begin to follow another version of the views."""
        return f"{self.app}-view-switches"

    @property
    def predictions(self) -> str:
        """Answers."""
        return f"{self.app}-predictions"

    @property
    def shadow_scores(self) -> str:
        """What champions and challengers said of the same requests."""
        return f"{self.app}-shadow-scores"

    @property
    def scoring_times(self) -> str:
        """How long champions and challengers took to score the same requests."""
        return f"{self.app}-scoring-times"

    @property
    def explanations(self) -> str:
        """Why answers have their scores."""
        return f"{self.app}-explanations"

    @property
    def outcomes(self) -> str:
        """Predictions joined with labels."""
        return f"{self.app}-outcomes"

    @property
    def drift(self) -> str:
        """Findings."""
        return f"{self.app}-drift"

    @property
    def found_incidents(self) -> str:
        """Findings that belong together, while they last, as drift finds them."""
        return f"{self.app}-found-incidents"

    @property
    def incidents(self) -> str:
        """Findings that belong together, while they last, and what was done about them."""
        return f"{self.app}-incidents"

    @property
    def revisions(self) -> str:
        """How a model's version serves from now on: the ends of its prediction intervals."""
        return f"{self.app}-revisions"

    @property
    def trials(self) -> str:
        """Champion and challenger on the same requests, block by block."""
        return f"{self.app}-trials"

    @property
    def health(self) -> str:
        """Metrics by window."""
        return f"{self.app}-health"

    @property
    def retraining(self) -> str:
        """What became of every training."""
        return f"{self.app}-retraining"

    @property
    def decisions(self) -> str:
        """What control asks for, or why it asks for nothing."""
        return f"{self.app}-decisions"

    @property
    def flush_marks(self) -> str:
        """Instants up to which somebody waits for the lake."""
        return f"{self.app}-flush-marks"

    @property
    def deployments(self) -> str:
        """Lifecycle log of models."""
        return f"{self.app}-deployments"

    @property
    def commands(self) -> str:
        """Operators' commands."""
        return f"{self.app}-commands"

    @property
    def alerts(self) -> str:
        """What people are told."""
        return f"{self.app}-alerts"

    @property
    def alert_state(self) -> str:
        """What is firing, and what is still to be sent."""
        return f"{self.app}-alert-state"

    def progress(self, stage: str) -> str:
        """Progress records of a stage."""
        return f"{self.app}-{stage}-progress"

    def checkpoint(self, stage: str) -> str:
        """State of a stage."""
        return f"{self.app}-{stage}-checkpoint"
