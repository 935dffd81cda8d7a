"""Reads of one entity, answered before the framework sees them."""

import time
from collections.abc import Callable

from prometheus_client import Counter
from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway.features import entity_answer
from shared.online_store.layout import UnknownEntityError
from shared.online_store.store import OnlineStore, OnlineStoreUnavailableError

_PREFIX = "/v1/features/"
_ORDINARY_S = 1.0


class DirectReads:
    """Answers ``GET /v1/features/{entity}/{key}`` on the event loop; everything else goes on to the application.

    Routing, dependencies and the hop to a thread are half of the CPU of a read. Reading on the loop holds up everybody, so the store has
    to be one that gives up soon; when it did, reads take the ordinary way for a second, where a thread may wait. What is no plain answer
    (unknown entities, keys that are no text) is the application's to explain.

    Parameters
    ----------
    store
        With a time limit of about a tenth of a second.
    clock
        Monotonic seconds.
    """

    def __init__(self, app: ASGIApp, store: OnlineStore, counted: Counter, clock: Callable[[], float] = time.monotonic) -> None:
        self._app, self._store, self._clock = app, store, clock
        self._answered = counted.labels("features", "200")
        self._ordinary_until = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        body = self._body(scope)
        if body is None:
            await self._app(scope, receive, send)
            return
        self._answered.inc()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _body(self, scope: Scope) -> bytes | None:
        if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].startswith(_PREFIX):
            return None
        entity, slash, key = scope["path"][len(_PREFIX) :].partition("/")
        if not slash or self._clock() < self._ordinary_until:
            return None
        try:
            return entity_answer(self._store.read_features(entity, [key])).encode()
        except OnlineStoreUnavailableError:
            self._ordinary_until = self._clock() + _ORDINARY_S
        except (UnknownEntityError, UnicodeEncodeError):
            pass
        return None
