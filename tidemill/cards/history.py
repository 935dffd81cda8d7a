"""What happened to a version, from the archived lifecycle log, decisions, trials and incidents: stages, events, and what went wrong meanwhile."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidemill.shared.lake.history import history
from tidemill.shared.lake.names import DECISIONS, DEPLOYMENTS, INCIDENTS, TRIALS
from tidemill.shared.lake.tables import Lake
from tidemill.shared.models.deployments import Lifecycle

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Stay:
    """A stretch of time in one stage.

    Attributes
    ----------
    stage
        ``shadow``, ``canary``, ``ab`` or ``champion``.
    share
        Of the requests; 1 of a champion.
    until_ms
        None while it lasts.
    ended_by
        The lifecycle event that ended it.
    """

    stage: str
    share: float
    from_ms: int
    until_ms: int | None = None
    ended_by: str = ""


@dataclass(frozen=True, slots=True)
class VersionEvent:
    """A lifecycle event about a version, with the decision that it follows from; without one where the archive has none of that id."""

    deployment: Record
    decision: Record | None


@dataclass(frozen=True, slots=True)
class TrialScores:
    """What its trials have shown so far: whole blocks of requests that champion and challenger were both scored on.

    Attributes
    ----------
    champion_loss, challenger_loss
        Means over labels.
    """

    champion: str
    stage: str
    blocks: int
    labels: int
    champion_loss: float
    challenger_loss: float


@dataclass(frozen=True, slots=True)
class ModelIncident:
    """An incident of a model.

    Attributes
    ----------
    newest
        Its newest record: what became of a decision may come when it is over.
    over_ms
        When it was resolved; None while it goes on.
    """

    newest: Record
    over_ms: int | None


@dataclass(frozen=True, slots=True)
class VersionHistory:
    """A version's history.

    Attributes
    ----------
    is_kept
        Whether the archive has the lifecycle log; one older than its table says nothing.
    incidents
        Those of its model that had begun, and were not over, while the version answered requests.
    """

    is_kept: bool
    stays: tuple[Stay, ...] = ()
    events: tuple[VersionEvent, ...] = ()
    comparisons: tuple[TrialScores, ...] = ()
    incidents: tuple[ModelIncident, ...] = ()


def version_history(lake: Lake, model: str, version: str) -> VersionHistory:
    """Read the history of a version."""
    deployments = history(lake, DEPLOYMENTS, model)
    if not deployments:
        return VersionHistory(is_kept=False)
    decisions = {one["decision_id"]: one for one in history(lake, DECISIONS, model)}
    stays = stays_of(deployments, version)
    events = tuple(VersionEvent(one, decisions.get(one["decision_id"])) for one in deployments if one["version"] == version)
    trials = [one for one in history(lake, TRIALS, model) if one["challenger_version"] == version]
    answered = [stay for stay in stays if stay.stage != "shadow"]
    meanwhile = tuple(one for one in incidents_of(history(lake, INCIDENTS, model)) if any(_overlap(one, stay) for stay in answered))
    return VersionHistory(True, stays, events, comparisons_of(trials), meanwhile)


def stays_of(deployments: Sequence[Record], version: str) -> tuple[Stay, ...]:
    """Follow a model's lifecycle log and return when the version was in which stage; events that count for nothing change nothing."""
    stays: list[Stay] = []
    open_stay: Stay | None = None
    lifecycle = Lifecycle()
    for event in deployments:
        lifecycle = lifecycle.apply(dict(event))
        place = _place(lifecycle, version)
        if open_stay is not None and place == (open_stay.stage, open_stay.share):
            continue
        if open_stay is not None:
            stays.append(Stay(open_stay.stage, open_stay.share, open_stay.from_ms, event["journal_time"], event["event"]))
        open_stay = Stay(*place, event["journal_time"]) if place is not None else None
    return tuple([*stays, open_stay] if open_stay is not None else stays)


def incidents_of(records: Sequence[Record]) -> list[ModelIncident]:
    """Return incidents as their records leave them, in the order in which they were opened."""
    newest: dict[str, Record] = {}
    over: dict[str, int] = {}
    for one in records:
        newest[one["incident_id"]] = one
        if one["status"] == "resolved":
            over.setdefault(one["incident_id"], one["journal_time"])
        else:
            over.pop(one["incident_id"], None)
    return [ModelIncident(one, over.get(name)) for name, one in newest.items()]


def comparisons_of(trials: Sequence[Record]) -> tuple[TrialScores, ...]:
    """Sum up blocks by champion and stage, in the order in which they began; slices are parts of the same requests."""
    sums: dict[tuple[str, str], list[float]] = {}
    for one in trials:
        if not one["slice"]:
            held = sums.setdefault((one["champion_version"], one["stage"]), [0, 0, 0.0, 0.0])
            held[0] += 1
            if one["labels"] and one["champion_loss"] is not None and one["challenger_loss"] is not None:
                held[1] += one["labels"]
                held[2] += one["labels"] * one["champion_loss"]
                held[3] += one["labels"] * one["challenger_loss"]
    return tuple(
        TrialScores(*name, int(blocks), int(labels), champion / labels if labels else float("nan"), challenger / labels if labels else float("nan"))
        for name, (blocks, labels, champion, challenger) in sums.items()
    )


def _place(lifecycle: Lifecycle, version: str) -> tuple[str, float] | None:
    if lifecycle.champion is not None and lifecycle.champion.version == version:
        return "champion", 1.0
    challenger = lifecycle.challenger
    if challenger is None or challenger.version != version:
        return None
    return challenger.stage, challenger.share if challenger.stage != "shadow" else 0.0


def _overlap(incident: ModelIncident, stay: Stay) -> bool:
    began_before = stay.until_ms is None or incident.newest["opened"] < stay.until_ms
    return began_before and (incident.over_ms is None or incident.over_ms >= stay.from_ms)
