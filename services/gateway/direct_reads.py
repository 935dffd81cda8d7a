"""Reads of one entity, answered before the framework sees them."""

from prometheus_client import Counter
from starlette.types import ASGIApp, Receive, Scope, Send

from tidemill.services.gateway.entity_keys import EntityKeys
from tidemill.services.gateway.features import FeatureReader, entity_answer
from tidemill.shared.avro.key_text import KeyTextError
from tidemill.shared.online_store.layout import UnknownEntityError
from tidemill.shared.online_store.store import OnlineStoreUnavailableError

_PREFIX = "/v1/features/"


class DirectReads:
    """Answers ``GET /v1/features/{entity}/{key}``; everything else goes on to the application.

    Routing and dependencies are half of the CPU of a read. What is no plain answer (unknown entities, keys that are no text, a store that is
    away) is the application's to explain.
    """

    def __init__(self, app: ASGIApp, reader: FeatureReader, keys: EntityKeys, counted: Counter) -> None:
        self._app, self._reader, self._keys = app, reader, keys
        self._answered = counted.labels("features", "200")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        body = await self._body(scope)
        if body is None:
            await self._app(scope, receive, send)
            return
        self._answered.inc()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _body(self, scope: Scope) -> bytes | None:
        if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].startswith(_PREFIX):
            return None
        entity, slash, key = scope["path"][len(_PREFIX) :].partition("/")
        if not slash:
            return None
        try:
            return entity_answer(await self._reader.read_features(entity, [self._keys.written(entity, key)])).encode()
        except (UnknownEntityError, UnicodeEncodeError, KeyTextError, OnlineStoreUnavailableError):
            return None
