"""Bodies are read here, and refused while they are read: too large, too slow, nested too deep."""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress

from prometheus_client import Counter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidemill.services.gateway.answers import refuse

LARGE_BYTES = 65_536
"""Bodies from this size on are looked through in a thread."""
_THROWN_AWAY = 8 << 20
# A string that does not end goes to the end of the body: a search that begins again behind its first quote takes the square of its length.
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)


class Bodies:
    """Answers 408, 413, 415 and 422; the application gets every other body whole.

    Parameters
    ----------
    limit
        Greatest body of a request with this path, bytes.
    depth
        How deep JSON may be nested; parsers recurse.
    timeout_s
        How long a body may take.
    """

    def __init__(self, app: ASGIApp, limit: Callable[[str], int], depth: int, timeout_s: float, counted: Counter) -> None:
        self._app, self._limit, self._depth, self._timeout_s, self._counted = app, limit, depth, timeout_s, counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read, and pass on or answer."""
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        limit = self._limit(scope["path"])
        problem = _declared(scope, limit)
        body = b""
        more_comes = True

        async def receive_part() -> Message:
            nonlocal more_comes
            message = await receive()
            more_comes = bool(message.get("more_body", False))
            return message

        if problem is None:
            try:
                async with asyncio.timeout(self._timeout_s):
                    content = await _read(receive_part, limit)
            except TimeoutError:
                problem = 408, f"expected the whole body within {self._timeout_s:g} s"
            else:
                if content is None:
                    return  # The client has gone.
                body = content
                if len(body) > limit:
                    problem = 413, f"expected at most {limit} bytes, got more"
                elif await _deeper(body, self._depth):
                    problem = 422, f"expected JSON nested at most {self._depth} deep"
        if problem is not None:
            self._counted.labels("door", str(problem[0])).inc()
            if more_comes and problem[0] in (413, 415):
                await self._throw_away(scope, receive)
            await refuse(send, *problem, close=True)
            return
        given: Message | None = {"type": "http.request", "body": body, "more_body": False}

        async def receive_whole() -> Message:
            nonlocal given
            message, given = given, None
            return message if message is not None else await receive()

        await self._app(scope, receive_whole, send)

    async def _throw_away(self, scope: Scope, receive: Receive) -> None:
        """Read on for a while: a connection that is closed while its client writes is reset, and the client never sees why."""
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        waits_to_be_asked = any(name == b"expect" for name, _ in scope["headers"])
        if waits_to_be_asked or (declared.isdigit() and int(declared[:20]) > _THROWN_AWAY):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout_s):
                await _read(receive, _THROWN_AWAY, kept=False)


async def _deeper(body: bytes, depth: int) -> bool:
    return deeper(body, depth) if len(body) < LARGE_BYTES else await asyncio.to_thread(deeper, body, depth)


def deeper(body: bytes, depth: int) -> bool:
    """Whether JSON is nested deeper than that; what is no JSON may count as deeper than it is."""
    if body.count(b"[") + body.count(b"{") <= depth:
        return False
    level = 0
    for match in _BRACKETS.finditer(body):
        first = match.group()
        if first in (b"[", b"{"):
            level += 1
            if level > depth:
                return True
        elif first in (b"]", b"}"):
            level -= 1
    return False


async def _read(receive: Receive, limit: int, *, kept: bool = True) -> bytes | None:
    """Return a body, or its beginning once that is longer than the limit; None when the client has gone. Nothing is kept where nobody wants it."""
    body, size = bytearray(), 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if kept:
            body += part
        if size > limit or not message.get("more_body", False):
            return bytes(body)


def _has_body(scope: Scope) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])


def _declared(scope: Scope, limit: int) -> tuple[int, str] | None:
    """Judge a body by its head."""
    for name, value in scope["headers"]:
        if name == b"content-encoding" and value.lower() not in (b"", b"identity"):
            return 415, "expected a body without content-encoding"
        if name == b"content-length" and (not value.isdigit() or int(value[:20]) > limit):
            return 413, f"expected at most {limit} bytes, got {value[:20].decode('latin-1')}"
    return None
