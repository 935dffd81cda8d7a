"""The lifecycle log of models, and the state that follows from it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Stage = Literal["shadow", "canary", "ab"]
"""Of a challenger's trial."""
_BEGINS_A_STAGE = ("shadow", "canary", "ab")
_ENDS_A_TRIAL = ("promoted", "rolled_back", "stepped_back", "pinned", "retired")
TRIAL, GOES_ON = "trial", "goes on"
"""Detail of a promotion, and its value where the trial of a challenger goes on: a refit has taken its predecessor's place."""


def ends_a_trial(event: Mapping[str, Any]) -> bool:
    """Whether no challenger is tried after an event of the lifecycle log; an event that begins a stage is none of these."""
    goes_on = event["event"] == "promoted" and (event.get("details") or {}).get(TRIAL) == GOES_ON
    return event["event"] in _ENDS_A_TRIAL and not goes_on


@dataclass(frozen=True, slots=True)
class ModelDeployment:
    """One version in service."""

    version: str
    artifact_sha256: str
    sequence: int
    threshold: float


@dataclass(frozen=True, slots=True)
class Challenger:
    """A version that is tried beside the champion.

    Attributes
    ----------
    sequence, since_ms
        Of the event that began its stage, and that event's journal time.
    stage
        ``shadow``: it scores every request and answers none; ``canary``: it answers a share of them; ``ab``: it answers its share of an A/B test.
    share
        Of the requests by the hash of their keys; does not count in shadow.
    """

    version: str
    artifact_sha256: str
    sequence: int
    threshold: float
    stage: Stage
    share: float
    since_ms: int


@dataclass(frozen=True, slots=True)
class Pin:
    """A version that serves until somebody unpins it: nothing is promoted or rolled back meanwhile."""

    version: str
    reason: str
    operator: str

    def __str__(self) -> str:
        return f"{self.version} pinned{f' by {self.operator}' if self.operator else ''} ({self.reason})"


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """Where one model stands: a fold of its deployment events.

    Attributes
    ----------
    head
        Sequence of the last event that counted; -1 before the first.
    champion
        What serves; None before the first promotion.
    retired
        Earlier champions, the latest last: where a roll-back goes. It takes those with it that came after its target.
    pin
        What an operator has pinned.
    challenger
        What is tried beside the champion; a newer one takes an older one's place. It leaves when anything is promoted, rolled back or pinned,
        but for a refit of the champion's recipe whose promotion says that the trial goes on: recipes are compared, and the champion's serves.
    registered
        Every version that was trained, the latest last, whatever its gate said.
    classes
        Of a model that learns them: those that some version knows, in the order in which all versions have them.
    """

    head: int = -1
    champion: ModelDeployment | None = None
    retired: tuple[ModelDeployment, ...] = ()
    ignored: int = 0
    pin: Pin | None = None
    challenger: Challenger | None = None
    registered: tuple[ModelDeployment, ...] = ()
    classes: tuple[str, ...] = ()

    def served_before(self, version: str) -> ModelDeployment | None:
        """Return an earlier champion by its version; None when it never was one, or was rolled back itself."""
        return next((old for old in reversed(self.retired) if old.version == version), None)

    @property
    def compared(self) -> tuple[str, str]:
        """SHA-256 of the champion and of the champion before it, which a training holds against each other; empty where there is none."""
        return self.champion.artifact_sha256 if self.champion else "", self.retired[-1].artifact_sha256 if self.retired else ""

    @property
    def compares(self) -> bool:
        """Whether an A/B test runs: both versions stay what they are until it has ended."""
        return self.challenger is not None and self.challenger.stage == "ab"

    def version(self, name: str) -> ModelDeployment | None:
        """Return a version that was trained or has served; None for any other."""
        return next((one for one in reversed((*self.retired, *self.registered)) if one.version == name), None)

    def apply(self, event: dict[str, Any]) -> "Lifecycle":
        """Return the state after an event.

        An event whose parent is not the head was decided on another state of affairs (a zombie, a repeated decision): it is ignored and counted.
        So is a roll-back to a version that never was champion: the worker writes none.
        """
        if event["parent"] != self.head or event["sequence"] != self.head + 1:
            return replace(self, ignored=self.ignored + 1)
        after = replace(self, head=event["sequence"])
        if event["event"] in _BEGINS_A_STAGE:
            return replace(after, challenger=_challenger(event))
        if ends_a_trial(event):
            after = replace(after, challenger=None)
        deployment = ModelDeployment(event["version"], event["artifact_sha256"], event["sequence"], event["threshold"])
        if event["event"] == "registered":
            classes = max(self.classes, tuple(event.get("classes") or ()), key=len)
            return replace(after, registered=(*self.registered, deployment), classes=classes)
        if event["event"] == "promoted":
            earlier = (*self.retired, self.champion) if self.champion is not None else self.retired
            return replace(after, champion=deployment, retired=earlier)
        if event["event"] == "rolled_back":
            target = self.served_before(event["version"])
            if target is None:
                return replace(self, ignored=self.ignored + 1)
            earlier = self.retired[: self.retired.index(target)]
            return replace(
                after,
                champion=replace(target, sequence=event["sequence"]),
                retired=tuple(old for old in earlier if old.version != event["version"]),
            )
        if event["event"] == "retired":
            # The application has no such model any more. One that is declared again begins with its own first promotion.
            earlier = (*self.retired, self.champion) if self.champion is not None else self.retired
            return replace(after, champion=None, retired=earlier, pin=None)
        if event["event"] in ("pinned", "unpinned"):
            pin = Pin(event["version"], event["reason"], event.get("operator", "")) if event["event"] == "pinned" else None
            return replace(after, pin=pin)
        return after


def _challenger(event: dict[str, Any]) -> Challenger:
    return Challenger(
        event["version"], event["artifact_sha256"], event["sequence"], event["threshold"], event["event"], event["share"], event["journal_time"]
    )


@dataclass(frozen=True, slots=True)
class Lifecycles:
    """The lifecycles of all models of an application."""

    models: dict[str, Lifecycle] = field(default_factory=dict)

    def apply(self, event: dict[str, Any]) -> "Lifecycles":
        """Return the state after an event."""
        return self.follow([event])

    def follow(self, events: Iterable[dict[str, Any]]) -> "Lifecycles":
        """Return the state after a run of events, in time that grows with the run and not with the number of models for each event."""
        models = dict(self.models)
        for event in events:
            name = str(event["model"])
            models[name] = models.get(name, Lifecycle()).apply(event)
        return Lifecycles(models)

    def of(self, model: str) -> Lifecycle:
        """Return a model's state."""
        return self.models.get(model, Lifecycle())
