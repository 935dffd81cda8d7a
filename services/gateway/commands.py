"""Commands over HTTP, signed here."""

import logging
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Protocol

from fastapi import APIRouter, HTTPException, Request
from prometheus_client import Counter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from tidemill.services.gateway.admission import holder_of
from tidemill.services.gateway.features import Problem
from tidemill.services.gateway.path_names import path_name
from tidemill.shared.application.plan import Plan
from tidemill.shared.commands.signing import RESUME_STREAM

log = logging.getLogger(__name__)


def _unicode(text: str) -> str:
    """Refuse what JSON can escape and UTF-8 cannot hold (half a surrogate pair): UnicodeEncodeError is a ValueError."""
    text.encode()
    return text


WITH_VERSION = ("promote", "step_back", "ab", "roll_back", "pin")


class CommandQuestion(BaseModel):
    """What an operator asks of the control plane."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"command": "retrain", "reason": "a new airline joined"}})

    command: Literal["retrain", "roll_back", "promote", "step_back", "ab", "pin", "unpin", "pause", "resume"]
    reason: Annotated[str, AfterValidator(_unicode)] = Field(min_length=1, max_length=1_000, pattern="^[^\\x00]*$")
    command_id: str = Field(
        default="", max_length=100, pattern="^[A-Za-z0-9._-]*$", description="By which a repeated command is known; made if empty."
    )
    version: str = Field(
        default="",
        max_length=200,
        pattern="^[A-Za-z0-9._-]*$",
        description="Where a roll_back goes (else: the champion before), what to pin, what ab compares, or the challenger to promote or step_back.",
    )
    serving: str = Field(
        default="", max_length=200, pattern="^[A-Za-z0-9._-]*$",
        description="The version that serves as far as you know: a roll_back, promote, step_back, ab, pin or unpin is refused once another one does.",
    )  # fmt: skip
    share: float | None = Field(default=None, gt=0, lt=1, description="Which the version of ab answers; the application's if left out.")

    @model_validator(mode="after")
    def _fits(self) -> "CommandQuestion":
        if self.version and self.command not in WITH_VERSION:
            raise ValueError(f"expected a version with roll_back, promote, step_back, ab and pin only, got one with {self.command}")
        if self.command == "ab" and not self.version:
            raise ValueError("expected the version that is compared with what serves (version), got none")
        if self.serving and self.command not in (*WITH_VERSION, "unpin"):
            raise ValueError(f"expected serving with roll_back, promote, step_back, ab, pin and unpin only, got it with {self.command}")
        if self.share is not None and self.command != "ab":
            raise ValueError(f"expected a share with ab only, got one with {self.command}")
        return self


class ResumeQuestion(BaseModel):
    """Why a stream that is paused may go on."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"reason": "the producer is mended"}})

    reason: Annotated[str, AfterValidator(_unicode)] = Field(min_length=1, max_length=1_000, pattern="^[^\\x00]*$")
    command_id: str = Field(default="", max_length=100, pattern="^[A-Za-z0-9._-]*$", description="Names the command; made if empty.")


class CommandAnswer(BaseModel):
    """What was written.

    `decisions` says whether a command to a model is followed, and `deployments` what became of it in the model's lifecycle.
    What became of one to a stream is in ingestion's progress record.
    """

    command_id: str
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Command:
    """What somebody commands; see `tidemill.shared.commands.signing.signed_command`.

    Attributes
    ----------
    model
        Or the stream, for a command to ingestion.
    """

    model: str
    command: str
    reason: str
    command_id: str = ""
    version: str = ""
    serving: str = ""
    operator: str = ""
    share: float = 0.0


class CommandDesk(Protocol):
    """Signs and publishes a command."""

    async def issue(self, command: Command) -> tuple[str, int, int]:
        """Return the command's id, its partition and its offset; ConnectionError."""
        ...


def commands_router(plan: Plan, desk: CommandDesk, counted: Counter) -> APIRouter:
    """Return ``POST /v1/models/{model}/commands``."""
    router = APIRouter(tags=["operation"])
    names, pausing = ", ".join(plan.models), [name for name, one in plan.streams.items() if one.pauses_on_flood]

    def refused(status: int, detail: str) -> HTTPException:
        counted.labels("commands", str(status)).inc()
        return HTTPException(status, detail)

    async def issue(subject: str, command: str, question: CommandQuestion | ResumeQuestion, request: Request) -> CommandAnswer:
        order = Command(subject, command, question.reason, question.command_id, operator=holder_of(request.scope))
        if isinstance(question, CommandQuestion):
            order = replace(order, version=question.version, serving=question.serving, share=question.share or 0.0)
        try:
            identity, partition, offset = await desk.issue(order)
        except ConnectionError as error:
            log.warning("a command was not written", extra={"subject": subject, "error": str(error)})
            raise refused(503, "Kafka or the schema registry did not take the command; send it again under the same command_id") from error
        counted.labels("commands", "202").inc()
        return CommandAnswer(command_id=identity, topic=plan.topics.commands, partition=partition, offset=offset)

    @router.post(
        "/v1/models/{model}/commands",
        status_code=202,
        summary="Retrain, roll back, promote, step back, compare (ab), pin, unpin, pause or resume a model",
        responses={404: {"model": Problem}, 503: {"model": Problem}},
    )
    async def command(
        model: Annotated[str, path_name(f"This application has {names}.", plan.models)], question: CommandQuestion, request: Request
    ) -> CommandAnswer:
        """Sign a command and write it to the control plane's topic, in the name of the token's holder.

        Whether it is followed is told on the topic `decisions`; what became of it in the model's lifecycle, or why it could not, on `deployments`.
        """
        if model not in plan.models:
            raise refused(404, f"expected a model of the application ({names}), got {model}")
        return await issue(model, question.command, question, request)

    @router.post(
        "/v1/streams/{stream}/resume",
        status_code=202,
        summary="Let a stream go on that a flood of junk has paused",
        responses={404: {"model": Problem}, 409: {"model": Problem}, 503: {"model": Problem}},
    )
    async def resume(
        stream: Annotated[str, path_name("One that declares `on_flood: pause`.", pausing)], question: ResumeQuestion, request: Request
    ) -> CommandAnswer:
        """Sign a command and write it to the topic of commands; ingestion follows it, in all partitions."""
        if stream not in plan.streams:
            raise refused(404, f"expected a stream of the application ({', '.join(plan.streams)}), got {stream}")
        if not plan.streams[stream].pauses_on_flood:
            raise refused(409, f"expected a stream that declares on_flood: pause; {stream} is never paused")
        return await issue(stream, RESUME_STREAM, question, request)

    return router
