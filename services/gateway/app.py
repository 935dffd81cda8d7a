"""The HTTP door: probes, metrics, online features, events as JSON."""

import json
import threading
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from fastapi import FastAPI, HTTPException, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest

from services.gateway.direct_reads import DirectReads
from services.gateway.features import features_router
from shared.application.plan import Plan
from shared.online_store.store import OnlineStore

_DELIVERY_S = 10.0
_MAX_EVENT_BYTES = 1_000_000


class Publisher(Protocol):
    """Publishes one event and says where it went."""

    def publish(self, topic: str, key: bytes, value: bytes) -> tuple[int, int]:
        """Return partition and offset; ConnectionError when the broker does not take it."""
        ...


class KafkaPublisher:
    """Publisher on Kafka: waits until all replicas have the event."""

    def __init__(self, bootstrap_servers: str, options: dict[str, str]) -> None:
        self._producer = Producer(
            {
                **options,
                "bootstrap.servers": bootstrap_servers,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "linger.ms": 2,
                "delivery.timeout.ms": int(_DELIVERY_S * 1e3),
            }
        )

    def publish(self, topic: str, key: bytes, value: bytes) -> tuple[int, int]:
        """Publish; returns partition and offset."""
        done = threading.Event()
        answer: list[tuple[KafkaError | None, Message]] = []

        def delivered(error: KafkaError | None, message: Message) -> None:
            answer.append((error, message))
            done.set()

        try:
            self._producer.produce(topic, value, key, on_delivery=delivered)
        except (BufferError, KafkaException) as error:
            raise ConnectionError(str(error)) from error
        while not done.is_set() and self._producer.poll(0.05) >= 0:
            pass
        failure, message = answer[0]
        if failure is not None:
            raise ConnectionError(failure.str())
        return int(message.partition() or 0), int(message.offset() or 0)


def build_app(
    plan: Plan, store: OnlineStore, publisher: Publisher, registry: CollectorRegistry | None = None, quick: OnlineStore | None = None
) -> FastAPI:
    """Return the application: ``/live``, ``/ready``, ``/metrics``, ``/v1/features/...``, ``/v1/events/{stream}``.

    Parameters
    ----------
    quick
        The same store with a short time limit, for single reads on the event loop; None: every read takes a thread.
    """
    metrics = registry or CollectorRegistry()
    counted = Counter("tidemill_gateway_requests_total", "Requests answered.", ["route", "status"], registry=metrics)
    app = FastAPI(
        title=f"Tidemill: {plan.application.app}",
        version=plan.application_hash[:12],
        description="Online features of the application's entities, and events as JSON. See `docs/guide/online-features.md`.",
    )

    @app.get("/live")
    def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/ready")
    def ready() -> dict[str, str]:
        if not store.ping():
            raise HTTPException(503, "the online store does not answer")
        return {"status": "ready"}

    @app.get("/metrics")
    def prometheus() -> Response:
        return Response(generate_latest(metrics), media_type=CONTENT_TYPE_LATEST)

    app.include_router(features_router(store, counted))
    if quick is not None:
        app.add_middleware(DirectReads, store=quick, counted=counted)

    @app.post("/v1/events/{stream}", status_code=202)
    async def events(stream: str, request: Request) -> dict[str, Any]:
        body = await request.body()
        try:
            topic, key = _addressed(plan, stream, body)
        except LookupError as error:
            counted.labels("events", "404").inc()
            raise HTTPException(404, str(error.args[0])) from error
        except ValueError as error:
            counted.labels("events", "422").inc()
            raise HTTPException(422, str(error)) from error
        try:
            partition, offset = publisher.publish(topic, key, body)
        except ConnectionError as error:
            counted.labels("events", "503").inc()
            raise HTTPException(503, f"Kafka did not take the event: {error}") from error
        counted.labels("events", "202").inc()
        return {"topic": topic, "partition": partition, "offset": offset}

    return app


def _addressed(plan: Plan, stream: str, body: bytes) -> tuple[str, bytes]:
    """Return where an event goes; LookupError for an unknown stream, ValueError for what ingestion would have to reject unread."""
    if stream not in plan.streams:
        raise LookupError(f"expected a stream of the application ({', '.join(plan.streams)}), got {stream}")
    if len(body) > _MAX_EVENT_BYTES:
        raise ValueError(f"expected at most {_MAX_EVENT_BYTES} bytes, got {len(body)}")
    try:
        event = json.loads(body)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"expected one JSON object: {error}") from error
    if not isinstance(event, dict):
        raise ValueError(f"expected one JSON object, got {type(event).__name__}")
    chosen = plan.streams[stream]
    name = chosen.key if chosen.is_reference else plan.application.partition_by
    if event.get(name) is None:
        raise ValueError(f"expected the partition key {name}, which is missing or null")
    return chosen.topic, str(event[name]).encode()
