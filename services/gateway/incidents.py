"""Incidents and findings over HTTP, for readers."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, HTTPException, Path, Query
from prometheus_client import Counter
from pydantic import BaseModel, Field

from tidemill.services.gateway.features import Problem
from tidemill.services.gateway.json_number import json_number
from tidemill.shared.log.broker import BrokerUnreachableError
from tidemill.shared.log.errors import TransientError

log = logging.getLogger(__name__)
MOST = 1_000
_AWAY = (TransientError, BrokerUnreachableError)
_DECISION = ("decision_id", "action", "verdict", "trigger", "reason", "version", "operator", "decided", "outcome", "result")
_INCIDENT = ("incident_id", "model", "status", "severity", "root", "likely_cause", "action", "kinds", "subjects", "findings", "detail", "opened")
_FINDING = ("drift_id", "model", "kind", "subject", "slice", "detector", "severity", "detail")


class DriftDesk(Protocol):
    """Reads what drift has found; both wait."""

    def incidents(self) -> Sequence[Mapping[str, Any]]:
        """Return the newest record of each incident, the newest last."""
        ...

    def findings(self) -> Sequence[Mapping[str, Any]]:
        """Return the newest finding of each model, kind, subject and slice, the newest last."""
        ...


class DecisionRow(BaseModel):
    """What was decided about an incident, and what became of it."""

    decision_id: str
    action: str
    verdict: str
    trigger: str
    reason: str
    version: str
    operator: str
    decided: int = Field(description="Journal time, milliseconds.")
    outcome: str
    result: str


class IncidentRow(BaseModel):
    """An incident as its newest record has it."""

    incident_id: str
    model: str
    status: str = Field(description="open, ongoing or resolved.")
    severity: str
    root: str = Field(description="column:STREAM.COLUMN, view:NAME, stream:NAME or model:NAME.")
    likely_cause: str
    action: str = Field(description="What was done about it, in words.")
    kinds: list[str]
    subjects: list[str]
    findings: int
    detail: str
    opened: int = Field(description="Journal time of its first finding, milliseconds.")
    updated: int = Field(description="Journal time of its newest record, milliseconds.")
    level: float | None = Field(description="Largest statistic in units of its bound.")
    evidence: dict[str, float | None]
    decisions: list[DecisionRow]


class IncidentPage(BaseModel):
    """Incidents, the one that changed last first."""

    incidents: list[IncidentRow]


class FindingRow(BaseModel):
    """The newest finding of one kind about one subject."""

    drift_id: str
    model: str
    kind: str
    subject: str
    slice: str
    detector: str
    severity: str
    detail: str
    found: int = Field(description="Journal time, milliseconds.")
    statistic: float | None
    threshold: float | None
    evidence: dict[str, float | None]


class FindingPage(BaseModel):
    """Findings, the newest first."""

    findings: list[FindingRow]


def incidents_router(models: Sequence[str], desk: DriftDesk, counted: Counter) -> APIRouter:
    """Return ``GET /v1/incidents``, ``/v1/incidents/{incident_id}`` and ``/v1/findings``; one of them at a time reads Kafka."""
    router = APIRouter(tags=["operation"])
    turn = asyncio.Lock()
    names = ", ".join(models)

    def refused(status: int, detail: str) -> HTTPException:
        counted.labels("incidents", str(status)).inc()
        return HTTPException(status, detail)

    async def newest_first(reading: Callable[[], Sequence[Mapping[str, Any]]]) -> list[Mapping[str, Any]]:
        async with turn:
            try:
                return list(reversed(await asyncio.to_thread(reading)))
            except _AWAY as error:
                log.warning("what drift tells cannot be reached", extra={"error": str(error)})
                raise refused(503, "Kafka or the schema registry does not answer; try again") from error

    def known(model: str | None) -> None:
        if model is not None and model not in models:
            raise refused(404, f"expected a model of the application ({names}), got {model}")

    @router.get("/v1/incidents", summary="Incidents, open ones if not asked otherwise", responses={404: {"model": Problem}, 503: {"model": Problem}})
    async def incidents(
        model: Annotated[str | None, Query(max_length=200, description=f"This application has {names}.")] = None,
        status: Literal["open", "resolved", "all"] = "open",
        limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
    ) -> IncidentPage:
        """Return the incidents of a model or of all, the one that changed last first; of the newest 5,000. `open` are those that are not over."""
        known(model)
        chosen = [
            one
            for one in await newest_first(desk.incidents)
            if model in (None, one["model"]) and (status == "all" or (one["status"] == "resolved") == (status == "resolved"))
        ]
        counted.labels("incidents", "200").inc()
        return IncidentPage(incidents=[_incident(one) for one in chosen[:limit]])

    @router.get(
        "/v1/incidents/{incident_id}",
        summary="One incident",
        responses={404: {"model": Problem}, 503: {"model": Problem}},
    )
    async def incident(incident_id: Annotated[str, Path(pattern="^[0-9a-f]{32}$")]) -> IncidentRow:
        """Return what is known of an incident, with what was decided about it."""
        incident_record = next((one for one in await newest_first(desk.incidents) if one["incident_id"] == incident_id), None)
        if incident_record is None:
            raise refused(404, f"expected the id of an incident among the newest 5,000, got {incident_id}")
        counted.labels("incidents", "200").inc()
        return _incident(incident_record)

    @router.get("/v1/findings", summary="The newest finding of each kind and subject", responses={404: {"model": Problem}, 503: {"model": Problem}})
    async def findings(
        model: Annotated[str | None, Query(max_length=200, description=f"This application has {names}.")] = None,
        kind: Annotated[str | None, Query(max_length=100, description="loss, missing, schema_change, ...")] = None,
        limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
    ) -> FindingPage:
        """Return what drift found last of each subject (and slice), the newest first; those for information only are among them."""
        known(model)
        chosen = [one for one in await newest_first(desk.findings) if model in (None, one["model"]) and kind in (None, one["kind"])]
        counted.labels("incidents", "200").inc()
        return FindingPage(findings=[_finding(one) for one in chosen[:limit]])

    return router


def _evidence(record: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: json_number(value) for name, value in record["evidence"].items()}


def _incident(record: Mapping[str, Any]) -> IncidentRow:
    decisions = [DecisionRow(**{name: one[name] for name in _DECISION}) for one in record["decisions"]]
    own = {name: record[name] for name in _INCIDENT}
    return IncidentRow(
        **own, updated=record["journal_time"], level=json_number(record["level"]), evidence=_evidence(record), decisions=decisions
    )  # fmt: skip


def _finding(record: Mapping[str, Any]) -> FindingRow:
    own = {name: record[name] for name in _FINDING}
    figures = {name: json_number(record[name]) for name in ("statistic", "threshold")}
    return FindingRow(**own, **figures, found=record["journal_time"], evidence=_evidence(record))
