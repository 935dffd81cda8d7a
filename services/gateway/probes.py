"""What those who run the gateway ask of it: whether it lives, whether it can answer, and its metrics."""

from fastapi import APIRouter, HTTPException, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from tidemill.services.gateway.features import FeatureReader


def probes_router(reader: FeatureReader, metrics: CollectorRegistry) -> APIRouter:
    """Return ``GET /live``, ``/ready`` (503 while the online store does not answer) and ``/metrics``."""
    router = APIRouter()

    @router.get("/live")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @router.get("/ready", responses={503: {"description": "The online store does not answer."}})
    async def ready() -> dict[str, str]:
        if not await reader.ping():
            raise HTTPException(503, "the online store does not answer")
        return {"status": "ready"}

    @router.get("/metrics")
    def prometheus() -> Response:
        return Response(generate_latest(metrics), media_type=CONTENT_TYPE_LATEST)

    return router
