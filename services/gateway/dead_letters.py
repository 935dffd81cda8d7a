"""Dead letters over HTTP: a listing for readers, a replay for operators."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Protocol, TypeVar

from fastapi import APIRouter, HTTPException, Query
from prometheus_client import Counter
from pydantic import BaseModel, ConfigDict, Field

from tidemill.services.gateway.features import Problem
from tidemill.shared.dead_letters.letters import Letter, LetterPlace, Selection
from tidemill.shared.dead_letters.replaying import LetterReplayResult
from tidemill.shared.log.broker import BrokerUnreachableError, FencedError
from tidemill.shared.log.errors import TransientError

log = logging.getLogger(__name__)
MOST = 1_000
_EXAMPLES = 20
Value = TypeVar("Value")
_AWAY = (TransientError, BrokerUnreachableError)


class LetterDesk(Protocol):
    """Reads and replays dead letters; both wait."""

    def newest(self, selection: Selection, limit: int) -> Sequence[Letter]:
        """Return the newest dead letters that a selection holds, oldest first."""
        ...

    def replay(self, selection: Selection) -> LetterReplayResult:
        """Publish originals again, each once."""
        ...


class LetterRow(BaseModel):
    """One dead letter, without its original."""

    place: str = Field(description="PARTITION:OFFSET on the topic of dead letters.")
    stream: str = Field(description="Stream whose topic the record stood on; empty for a record of an internal topic.")
    stage: str
    reason: str
    detail: str
    source_topic: str
    source_partition: int
    source_offset: int
    source_timestamp: int = Field(description="Kafka timestamp of the record, milliseconds.")
    replayed_at: int | None = Field(description="When its original was published again, milliseconds.")


class LetterPage(BaseModel):
    """The newest dead letters of a selection."""

    letters: list[LetterRow]


class ReplayQuestion(BaseModel):
    """Which dead letters to replay; at least one field."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"reasons": ["expectation"], "streams": ["departures"]}})

    places: list[Annotated[str, Field(pattern="^[0-9]{1,9}:[0-9]{1,18}$")]] = Field(default_factory=list, max_length=MOST)
    reasons: list[str] = Field(default_factory=list, max_length=100)
    streams: list[str] = Field(default_factory=list, max_length=100)
    since: datetime | None = None
    until: datetime | None = None


class ReplayAnswer(BaseModel):
    """What became of them; `why` are reasons for which some cannot be replayed."""

    replayed: int
    already: int
    refused: int
    why: list[str]


def dead_letters_router(desk: LetterDesk, counted: Counter) -> APIRouter:
    """Return ``GET /v1/dead-letters`` and ``POST /v1/dead-letters/replay``; one of them at a time reads Kafka."""
    router = APIRouter(tags=["operation"])
    turn = asyncio.Lock()

    def refused(status: int, detail: str) -> HTTPException:
        counted.labels("dead_letters", str(status)).inc()
        return HTTPException(status, detail)

    async def waited(doing: Callable[[], Value]) -> Value:
        async with turn:
            try:
                return await asyncio.to_thread(doing)
            except FencedError as error:
                raise refused(409, "somebody else has begun a replay; what was done until then is done") from error
            except _AWAY as error:
                log.warning("dead letters cannot be reached", extra={"error": str(error)})
                raise refused(503, "Kafka or the schema registry does not answer; try again, nothing is published twice") from error

    @router.get("/v1/dead-letters", summary="The newest dead letters", responses={503: {"model": Problem}})
    async def newest(
        reason: Annotated[list[str] | None, Query(max_length=100)] = None,
        stream: Annotated[list[str] | None, Query(max_length=100)] = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
    ) -> LetterPage:
        """Return the newest dead letters, oldest first; of each partition, the newest 100,000 are looked at."""
        try:
            selection = Selection(frozenset(reason or ()), frozenset(stream or ()), since_ms=_instant(since), until_ms=_instant(until))
        except ValueError as error:
            raise refused(422, str(error)) from error
        letters = await waited(lambda: desk.newest(selection, limit))
        counted.labels("dead_letters", "200").inc()
        return LetterPage(letters=[_row(letter) for letter in letters])

    @router.post("/v1/dead-letters/replay", summary="Replay dead letters", responses={409: {"model": Problem}, 503: {"model": Problem}})
    async def replay(question: ReplayQuestion) -> ReplayAnswer:
        """Publish the originals of dead letters again, each once, after what refused them was mended."""
        try:
            selection = Selection(
                frozenset(question.reasons), frozenset(question.streams), since_ms=_instant(question.since), until_ms=_instant(question.until),
                places=frozenset(map(LetterPlace.parse, question.places)),
            )  # fmt: skip
        except ValueError as error:
            raise refused(422, str(error)) from error
        if selection == Selection():
            raise refused(422, "expected places, reasons, streams, since or until, got none of them")
        result = await waited(lambda: desk.replay(selection))
        counted.labels("dead_letters", "200").inc()
        why = list(dict.fromkeys(why for _, why in result.refused))[:_EXAMPLES]
        return ReplayAnswer(replayed=result.replayed, already=result.already, refused=len(result.refused), why=why)

    return router


def _instant(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round((aware - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000)


def _row(letter: Letter) -> LetterRow:
    names = ("stage", "reason", "detail", "source_topic", "source_partition", "source_offset", "source_timestamp")
    return LetterRow(place=str(letter.place), stream=letter.stream, replayed_at=letter.replayed_at, **{name: letter.record[name] for name in names})
