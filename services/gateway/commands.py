"""Commands over HTTP, signed here."""

import logging
from typing import Annotated, Literal, Protocol

from fastapi import APIRouter, HTTPException, Path
from prometheus_client import Counter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from services.gateway.features import Problem
from shared.application.plan import Plan

log = logging.getLogger(__name__)


def _unicode(text: str) -> str:
    """Refuse what JSON can escape and UTF-8 cannot hold (half a surrogate pair): UnicodeEncodeError is a ValueError."""
    text.encode()
    return text


class CommandQuestion(BaseModel):
    """What an operator asks of the control plane."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"command": "retrain", "reason": "a new airline joined"}})

    command: Literal["retrain", "roll_back", "pause", "resume"]
    reason: Annotated[str, AfterValidator(_unicode)] = Field(min_length=1, max_length=1_000, pattern="^[^\\x00]*$")
    command_id: str = Field(
        default="", max_length=100, pattern="^[A-Za-z0-9._-]*$", description="By which a repeated command is known; made if empty."
    )


class CommandAnswer(BaseModel):
    """What was written; `retraining` says what became of it."""

    command_id: str
    topic: str
    partition: int
    offset: int


class CommandDesk(Protocol):
    """Signs and publishes a command."""

    async def issue(self, model: str, command: str, reason: str, command_id: str) -> tuple[str, int, int]:
        """Return the command's id, its partition and its offset; ConnectionError."""
        ...


def commands_router(plan: Plan, desk: CommandDesk, counted: Counter) -> APIRouter:
    """Return ``POST /v1/models/{model}/commands``."""
    router = APIRouter(tags=["operation"])
    names = ", ".join(plan.models)

    def refused(status: int, detail: str) -> HTTPException:
        counted.labels("commands", str(status)).inc()
        return HTTPException(status, detail)

    @router.post(
        "/v1/models/{model}/commands",
        status_code=202,
        summary="Retrain, roll back, pause or resume a model",
        responses={404: {"model": Problem}, 503: {"model": Problem}},
    )
    async def command(model: Annotated[str, Path(description=f"This application has {names}.")], question: CommandQuestion) -> CommandAnswer:
        """Sign a command and write it to the control plane's topic; what becomes of it is told on the topic `retraining`."""
        if model not in plan.models:
            raise refused(404, f"expected a model of the application ({names}), got {model}")
        try:
            identity, partition, offset = await desk.issue(model, question.command, question.reason, question.command_id)
        except ConnectionError as error:
            log.warning("a command was not written", extra={"model": model, "error": str(error)})
            raise refused(503, "Kafka or the schema registry did not take the command; send it again under the same command_id") from error
        counted.labels("commands", "202").inc()
        return CommandAnswer(command_id=identity, topic=plan.topics.commands, partition=partition, offset=offset)

    return router
