"""Notifications by HTTP POST, signed."""

import hashlib
import hmac
import time
from collections.abc import Callable

import aiohttp

from tidemill.services.alerts.channels.bodies import body_of
from tidemill.services.alerts.channels.channel import NotSentError
from tidemill.services.alerts.domain.notification import Message
from tidemill.services.alerts.settings import WebhookSettings

# The request was in order; the receiver could not at this moment.
_PASSING = frozenset({408, 425, 429})
_LONGEST_WAIT_S = 3_600.0


def signature(key: bytes, timestamp: str, body: bytes) -> str:
    """Return what stands in ``X-Tidemill-Signature``: ``v1=`` and the HMAC-SHA256 (hex) of timestamp, a full stop and body.

    >>> signature(b"key", "1700000000", b"{}")[:11]
    'v1=9d713ed4'
    """
    return "v1=" + hmac.new(key, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class WebhookChannel:
    """Posts each message to one address.

    The receiver has taken it when it answers 2xx. A message that is sent again has the same ``X-Tidemill-Message-Id`` and the same body.
    """

    def __init__(self, app: str, body_format: str, settings: WebhookSettings, now_s: Callable[[], float] = time.time) -> None:
        self._app = app
        self._format = body_format
        self._settings = settings
        self._now_s = now_s
        self._session: aiohttp.ClientSession | None = None

    async def send(self, message: Message) -> None:
        """Post it; what went wrong is said without the address, which may be a secret."""
        body, timestamp = body_of(self._format, self._app, message), str(int(self._now_s()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "tidemill-alerts",
            "X-Tidemill-Message-Id": message.message_id,
            "Idempotency-Key": message.message_id,
            "X-Tidemill-Timestamp": timestamp,
        }
        if self._settings.key is not None:
            headers["X-Tidemill-Signature"] = signature(self._settings.key.get_secret_value().encode(), timestamp, body)
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._settings.timeout_s))
        try:
            # A redirect would carry the body, and its signature, to an address that nobody has declared.
            async with self._session.post(self._settings.url.get_secret_value(), data=body, headers=headers, allow_redirects=False) as answer:
                if 200 <= answer.status < 300:
                    return
                again = answer.status >= 500 or answer.status in _PASSING
                raise NotSentError(f"the receiver answered {answer.status}", again=again, wait_s=_wait(answer.headers.get("Retry-After", "")))
        except aiohttp.InvalidURL:
            raise NotSentError("the address is no address", again=False) from None
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise NotSentError(f"the receiver cannot be reached: {type(error).__name__}", again=True) from None

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()


def _wait(retry_after: str) -> float:
    return min(float(retry_after), _LONGEST_WAIT_S) if retry_after.isdigit() else 0.0
