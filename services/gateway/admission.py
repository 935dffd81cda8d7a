"""Who may come in: tokens, roles and rates, before a byte of the body is read."""

import ipaddress
import math
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from prometheus_client import Counter
from starlette.types import ASGIApp, Receive, Scope, Send

from tidemill.services.gateway.answers import refuse
from tidemill.services.gateway.rate_limit import RateLimit
from tidemill.services.gateway.settings import Role
from tidemill.services.gateway.tokens import Holder, TokenBook

_HOLDER = "tidemill.holder"
_PROBES = ("/live", "/ready")
_ROLES: tuple[tuple[re.Pattern[str], Role], ...] = (
    (re.compile(r"/v1/events/"), "publish"),
    (re.compile(r"/v1/models/.*/commands$|/v1/streams/.*/resume$|/v1/dead-letters/replay$"), "operate"),
)


def holder_of(scope: Mapping[str, object]) -> str:
    """Return who was let in: the name of the token's holder; empty where the door is open."""
    return str(scope.get(_HOLDER, ""))


class Admission:
    """Answers 401, 403 and 429; everybody else goes on to the application.

    ``/live`` and ``/ready`` need no token. Without any token the door is open, which the caller grants on a loopback address only; then a web page of
    a stranger in a browser on this machine must not pass for a local program, so requests with another host or origin are refused.

    Parameters
    ----------
    limit
        By holder, without tokens by address.
    """

    def __init__(self, app: ASGIApp, book: TokenBook, limit: RateLimit, counted: Counter) -> None:
        self._app, self._book, self._limit, self._counted = app, book, limit, counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in, or answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = scope["client"][0] if scope.get("client") else ""
        role = role_of(scope["method"], scope["path"])
        holder = self._holder(scope) if role is not None and len(self._book) else None
        # A wrong token must not use up what somebody with a right one at the same address may ask.
        if wait := self._limit.wait_s(f"token {holder.name}" if holder else client):
            await self._refuse(send, 429, f"expected fewer requests; try again in {wait:.3g} s", {"retry-after": str(math.ceil(wait))})
        elif role is None:
            await self._app(scope, receive, send)
        elif not len(self._book) and not _local(scope):
            await self._refuse(send, 403, "expected a request from this machine to this machine: without tokens the gateway is open on loopback only")
        elif len(self._book) and holder is None:
            await self._refuse(send, 401, "expected a known token: Authorization: Bearer TOKEN", {"www-authenticate": "Bearer"})
        elif holder is not None and role not in holder.roles:
            await self._refuse(send, 403, f"expected a token with the role {role}; {holder.name} has {', '.join(sorted(holder.roles))}")
        else:
            await self._app({**scope, _HOLDER: holder.name} if holder is not None else scope, receive, send)

    def _holder(self, scope: Scope) -> Holder | None:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) != 1:
            return None
        scheme, _, token = given[0].decode("latin-1").partition(" ")
        return self._book.holder(token.strip()) if scheme.lower() == "bearer" else None

    async def _refuse(self, send: Send, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        self._counted.labels("door", str(status)).inc()
        await refuse(send, status, detail, headers, close=True)


def role_of(method: str, path: str) -> Role | None:
    """Return the role that a request needs; None for the probes."""
    if path in _PROBES:
        return None
    if method in ("POST", "PUT", "PATCH", "DELETE"):
        for pattern, role in _ROLES:
            if pattern.match(path):
                return role
    return "read"


def _local(scope: Scope) -> bool:
    """Whether host and origin, where a client names them, are this machine."""
    try:
        hosts = [
            urlsplit(f"//{value.decode('latin-1')}" if name == b"host" else value.decode("latin-1")).hostname
            for name, value in scope["headers"]
            if name in (b"host", b"origin")
        ]
    except ValueError:
        return False
    return all(host is not None and _loopback(host) for host in hosts)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
