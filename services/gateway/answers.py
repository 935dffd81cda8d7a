"""Answers that are given before, or instead of, the application's."""

import json
from collections.abc import Mapping

from starlette.types import Send


async def refuse(send: Send, status: int, detail: str, headers: Mapping[str, str] | None = None, close: bool = False) -> None:
    """Answer with a reason, as the application's own errors look.

    Parameters
    ----------
    close
        End the connection: the rest of the request is not read.
    """
    body = json.dumps({"detail": detail}).encode()
    own = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {}), **({"connection": "close"} if close else {})}
    await send({"type": "http.response.start", "status": status, "headers": [(name.encode(), value.encode()) for name, value in own.items()]})
    await send({"type": "http.response.body", "body": body})
