"""Events over HTTP: one JSON object, published under its partition key."""

import asyncio
import logging
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request
from prometheus_client import Counter

from tidemill.services.gateway.bodies import LARGE_BYTES
from tidemill.services.gateway.event_key import EventKey
from tidemill.services.gateway.features import Problem
from tidemill.services.gateway.path_names import path_name
from tidemill.services.gateway.publisher import EventTooLargeError, Publisher
from tidemill.services.gateway.topic_limits import TopicLimits
from tidemill.shared.application.plan import Plan

log = logging.getLogger(__name__)
_BOM = b"\xef\xbb\xbf"
_BLANKS = b" \t\r\n"


def events_router(plan: Plan, publisher: Publisher, limits: TopicLimits, counted: Counter) -> APIRouter:
    """Return ``POST /v1/events/{stream}``."""
    router = APIRouter(tags=["events"])
    names = ", ".join(plan.streams)
    keys = {name: EventKey(one) for name, one in plan.streams.items()}

    def refused(status: int, detail: str) -> HTTPException:
        counted.labels("events", str(status)).inc()
        return HTTPException(status, detail)

    @router.post(
        "/v1/events/{stream}",
        status_code=202,
        summary="Publish an event",
        responses={
            404: {"model": Problem, "description": "The application has no such stream."},
            413: {"model": Problem, "description": "Larger than the broker takes."},
            422: {"model": Problem, "description": "Not one JSON object with a partition key."},
            503: {"model": Problem, "description": "Kafka has not taken the event; send it again under the same event id."},
        },
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}},
    )
    async def events(stream: Annotated[str, path_name(f"This application has {names}.", plan.streams)], request: Request) -> dict[str, Any]:
        """Publish one event; 202 once all replicas have it.

        Ingestion judges it as it judges every other: what it refuses becomes a dead letter, not an error here.
        """
        chosen = plan.streams.get(stream)
        if chosen is None:
            raise refused(404, f"expected a stream of the application ({names}), got {stream}")
        try:
            value = _text(await request.body())
            # Parsing a megabyte takes ten milliseconds, an expression one: nobody else would be answered meanwhile.
            key_of = keys[stream].of
            key = key_of(value) if len(value) < LARGE_BYTES and not keys[stream].is_derived else await asyncio.to_thread(key_of, value)
        except ValueError as error:
            raise refused(422, str(error)) from error
        if len(key) + len(value) > limits.of(chosen.topic):
            raise refused(413, f"expected at most {limits.of(chosen.topic)} bytes with the key, got {len(key) + len(value)}")
        try:
            partition, offset = await publisher.publish(chosen.topic, key, value)
        except EventTooLargeError as error:
            raise refused(413, f"expected an event that the broker takes, got {len(key) + len(value)} bytes") from error
        except ConnectionError as error:
            log.warning("Kafka did not take an event", extra={"topic": chosen.topic, "error": str(error)})
            raise refused(503, "Kafka did not take the event; send it again under the same event id") from error
        counted.labels("events", "202").inc()
        return {"topic": chosen.topic, "partition": partition, "offset": offset}

    return router


def _text(body: bytes) -> bytes:
    """Return the JSON as ingestion knows it: UTF-8 that begins with the object's brace."""
    value = body.removeprefix(_BOM).strip(_BLANKS)
    if not value.startswith(b"{"):
        raise ValueError(f"expected one JSON object in UTF-8, got a body that begins with {value[:10]!r}")
    return value
