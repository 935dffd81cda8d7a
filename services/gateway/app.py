"""The HTTP door: probes, metrics, online features, events as JSON, commands, dead letters, incidents, explanations."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter

from tidemill.services.gateway.admission import Admission
from tidemill.services.gateway.bodies import Bodies
from tidemill.services.gateway.commands import CommandDesk, commands_router
from tidemill.services.gateway.dead_letters import LetterDesk, dead_letters_router
from tidemill.services.gateway.direct_reads import DirectReads
from tidemill.services.gateway.entity_keys import EntityKeys
from tidemill.services.gateway.events import events_router
from tidemill.services.gateway.explanations import ExplanationDesk, explanations_router
from tidemill.services.gateway.features import FeatureReader, features_router
from tidemill.services.gateway.incidents import DriftDesk, incidents_router
from tidemill.services.gateway.probes import probes_router
from tidemill.services.gateway.publisher import Publisher
from tidemill.services.gateway.rate_limit import RateLimit
from tidemill.services.gateway.settings import DoorSettings
from tidemill.services.gateway.tokens import TokenBook
from tidemill.services.gateway.topic_limits import TopicLimits
from tidemill.shared.application.plan import Plan

_EVENTS = "/v1/events/"
_PROBLEMS_SHOWN = 5


def _unasked(_topics: Sequence[str]) -> Mapping[str, int]:
    return {}


@dataclass(frozen=True, slots=True)
class Door:
    """Who may come in, and how much of it.

    Attributes
    ----------
    tokens
        Without any the door is open to this machine.
    ask_limits
        Returns the broker's limit by topic, see `TopicLimits`.
    """

    settings: DoorSettings = field(default_factory=DoorSettings)
    tokens: TokenBook = field(default_factory=lambda: TokenBook({}))
    ask_limits: Callable[[Sequence[str]], Mapping[str, int]] = _unasked


def build_app(
    plan: Plan,
    reader: FeatureReader,
    publisher: Publisher,
    registry: CollectorRegistry | None = None,
    door: Door | None = None,
    desk: CommandDesk | None = None,
    letters: LetterDesk | None = None,
    drift: DriftDesk | None = None,
    explanations: ExplanationDesk | None = None,
) -> FastAPI:
    """Return the application: ``/live``, ``/ready``, ``/metrics``, ``/v1/features/...``, ``/v1/events/{stream}``, and those of operators.

    Parameters
    ----------
    door
        None: without tokens and open to requests of every host, for tests.
    desk, letters, drift, explanations
        Take commands, look after dead letters, read what drift tells and what was explained; None: there are no such routes.
    """
    metrics = registry or CollectorRegistry()
    counted = Counter("tidemill_gateway_requests_total", "Requests answered.", ["route", "status"], registry=metrics)
    settings = (door or Door()).settings
    limits = TopicLimits(list(plan.topics.raw), (door or Door()).ask_limits, settings.max_event_bytes)
    keys = EntityKeys(plan)

    @asynccontextmanager
    async def following(_app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(limits.follow())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    app = FastAPI(
        title=f"Tidemill: {plan.application.app}",
        version=plan.application_hash[:12],
        description="Online features of the application's entities, events as JSON, commands, dead letters, incidents, explanations: see"
        " `docs/guide/gateway.md`.",
        lifespan=following,
    )

    @app.exception_handler(RequestValidationError)
    async def misunderstood(_request: Request, error: Exception) -> JSONResponse:
        problems = error.errors() if isinstance(error, RequestValidationError) else []
        shown = [{"loc": [_shown(part, 100) for part in one["loc"]], "msg": _shown(one["msg"], 300)} for one in problems[:_PROBLEMS_SHOWN]]
        return JSONResponse({"detail": shown}, 422)

    app.include_router(probes_router(reader, metrics))
    app.include_router(features_router(reader, keys, counted))
    app.include_router(events_router(plan, publisher, limits, counted))
    if desk is not None:
        app.include_router(commands_router(plan, desk, counted))
    if letters is not None:
        app.include_router(dead_letters_router(letters, counted))
    if drift is not None:
        app.include_router(incidents_router(list(plan.models), drift, counted))
    if explanations is not None:
        app.include_router(explanations_router([name for name, one in plan.models.items() if one.settings.explain], explanations, counted))

    topics = {stream.name: stream.topic for stream in plan.streams.values()}

    def most(path: str) -> int:
        topic = topics.get(path.removeprefix(_EVENTS)) if path.startswith(_EVENTS) else None
        return settings.max_request_bytes if topic is None else limits.of(topic)

    # The one added last is the outermost: who is refused at the door costs nothing more.
    app.add_middleware(DirectReads, reader=reader, keys=keys, counted=counted)
    app.add_middleware(Bodies, limit=most, depth=settings.max_depth, timeout_s=settings.body_timeout_s, counted=counted)
    if door is not None:
        app.add_middleware(Admission, book=door.tokens, limit=RateLimit(settings.requests_per_s, settings.burst), counted=counted)
    return app


def _shown(part: object, most: int) -> str:
    """Return what came, cut, as UTF-8 can hold it: a field's name may be half a surrogate pair."""
    return str(part)[:most].encode("utf-8", "replace").decode()
