"""The HTTP server: uvicorn, which does not wait for slow clients."""

import asyncio
from typing import ClassVar

from fastapi import FastAPI
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from tidemill.services.gateway.settings import DoorSettings

_KEEP_ALIVE_S = 75  # Readers keep their connections; opening one costs more than a read.
_GRACE_S = 4


class ImpatientProtocol(H11Protocol):
    """Ends a connection whose client takes too long over the head of a request, or over an answer.

    uvicorn has a time limit between requests only. The limits are set on a subclass (`impatient`), since uvicorn makes the instances.
    """

    head_timeout_s: ClassVar[float] = 10.0
    answer_timeout_s: ClassVar[float] = 10.0
    _head: asyncio.TimerHandle | None = None
    _answer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own protocol narrows it, too
        """Expect a head."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Expect the rest of a head that has begun."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._expect_head()
        else:
            self._head_is_here()

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing any more."""
        self._head_is_here()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Expect the client to read on."""
        super().pause_writing()
        if self._answer is None:
            self._answer = self.loop.call_later(self.answer_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Take note that it does."""
        if self._answer is not None:
            self._answer.cancel()
            self._answer = None
        if self.flow is not None:
            super().resume_writing()

    def _expect_head(self) -> None:
        if self._head is None and not self.transport.is_closing():
            self._head = self.loop.call_later(self.head_timeout_s, self.transport.abort)

    def _head_is_here(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


def server(app: FastAPI, settings: DoorSettings) -> Server:
    """Return the server; ``run([socket])`` serves until a signal."""

    class Impatient(ImpatientProtocol):
        head_timeout_s = settings.head_timeout_s
        answer_timeout_s = settings.answer_timeout_s

    return Server(
        Config(
            app,
            http=Impatient,
            ws="none",
            # A caller's word for where it comes from would be its way around the rate limit.
            proxy_headers=False,
            server_header=False,
            log_config=None,
            access_log=False,
            limit_concurrency=settings.max_connections,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GRACE_S,
        )
    )
