"""Why an answer has its score, over HTTP, for readers."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, HTTPException, Path, Query
from prometheus_client import Counter
from pydantic import BaseModel, Field

from tidemill.services.gateway.features import Problem
from tidemill.shared.log.broker import BrokerUnreachableError
from tidemill.shared.log.errors import TransientError

log = logging.getLogger(__name__)
_AWAY = (TransientError, BrokerUnreachableError)
_PLAIN = (
    "request_id", "model", "model_version", "variant", "score", "predicted", "predicted_label", "not_explained", "method", "link", "base", "rest",
    "rest_features",
)  # fmt: skip


class ExplanationDesk(Protocol):
    """Reads what was explained of late; waits."""

    def of_request(self, request_id: str) -> Sequence[Mapping[str, Any]]:
        """Return the newest explanation of a request by each model that answered it; none if it is unknown."""
        ...


class ContributionRow(BaseModel):
    """What one feature added."""

    feature: str
    value: float | str | None
    contribution: float


class ExplanationRow(BaseModel):
    """Why a model's answer to a request has its score: base, contributions and rest add up to what the link makes the score of."""

    request_id: str
    model: str
    model_version: str
    variant: str
    score: float | None
    predicted: int
    predicted_label: str | None
    not_explained: str | None = Field(description="Why there are no contributions: fallback, graph, calibration, artifact, vector, score or parts.")
    method: str | None
    link: str | None = Field(description="logit, softmax or identity.")
    base: float | None
    contributions: list[ContributionRow]
    rest: float | None
    rest_features: int
    requested: int = Field(description="Journal time of the request, milliseconds.")


class ExplanationPage(BaseModel):
    """The explanations of one request, by model."""

    explanations: list[ExplanationRow]


def explanations_router(models: Sequence[str], desk: ExplanationDesk, counted: Counter) -> APIRouter:
    """Return ``GET /v1/explanations/{request_id}``; one request at a time reads Kafka.

    Parameters
    ----------
    models
        Those that declare `explain`.
    """
    router = APIRouter(tags=["operation"])
    turn = asyncio.Lock()
    names = ", ".join(models)

    def refused(status: int, detail: str) -> HTTPException:
        counted.labels("explanations", str(status)).inc()
        return HTTPException(status, detail)

    @router.get(
        "/v1/explanations/{request_id:path}",
        summary="Why a request got its answer",
        responses={404: {"model": Problem}, 503: {"model": Problem}},
    )
    async def explanations(
        request_id: Annotated[str, Path(min_length=1, max_length=1_000, description="Event id of the asking event.")],
        model: Annotated[str | None, Query(max_length=200, description=f"Models that declare `explain`: {names}.")] = None,
    ) -> ExplanationPage:
        """Return the newest explanations of a request that was answered of late; older ones are in the archive (`tidemill explain ID`)."""
        if model is not None and model not in models:
            raise refused(404, f"expected a model that declares explain ({names}), got {model}")
        async with turn:
            try:
                records = await asyncio.to_thread(desk.of_request, request_id)
            except _AWAY as error:
                log.warning("explanations cannot be reached", extra={"error": str(error)})
                raise refused(503, "Kafka or the schema registry does not answer; try again") from error
        chosen = [_explanation(one) for one in records if model in (None, one["model"])]
        if not chosen:
            where = "among the newest explanations; those before are in the archive: tidemill explain ID"
            raise refused(404, f"expected the id of a request {where}, got {request_id[:200]}")
        counted.labels("explanations", "200").inc()
        return ExplanationPage(explanations=chosen)

    return router


def _explanation(record: Mapping[str, Any]) -> ExplanationRow:
    rows = [
        ContributionRow(feature=one["feature"], value=one["text"] if one["text"] is not None else one["number"], contribution=one["contribution"])
        for one in record["contributions"]
    ]
    # The pages are written with null where JSON has no number: pydantic's way with NaN and infinities.
    return ExplanationRow(**{name: record[name] for name in _PLAIN}, contributions=rows, requested=record["journal_time"])
