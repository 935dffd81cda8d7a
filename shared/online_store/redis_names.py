"""What the online store is called in Redis, and what Redis's errors mean to it."""

import redis

from tidemill.shared.observability.redaction import redacted
from tidemill.shared.online_store.layout import EntityLayout
from tidemill.shared.online_store.store import OnlineStoreUnavailableError

# Redis works, but not for us just now: memory is full, a replica after a fail-over, no disk, still loading.
# The client strips some of these words from the message and makes them the error's type; inside a script's error they stay.
_AWAY = (redis.ConnectionError, redis.TimeoutError, redis.OutOfMemoryError, redis.ReadOnlyError)
_REFUSALS = ("OOM", "READONLY", "MISCONF", "LOADING", "MASTERDOWN", "NOREPLICAS", "CLUSTERDOWN")


class RedisNames:
    """Keys are ``<app>:<entity>:<layout digest>:<key>``; ``<app>:_state:<entity>:<layout digest>:<partition>`` is about a writing task."""

    def __init__(self, app: str) -> None:
        self._app = app

    def prefix(self, layout: EntityLayout) -> str:
        """What the key of an entity is appended to."""
        return f"{self._app}:{layout.entity}:{layout.digest}:"

    def state(self, layout: EntityLayout, partition: int) -> str:
        """Where a writing task's generation and completeness are."""
        return f"{self._app}:_state:{layout.entity}:{layout.digest}:{partition}"


def refusal(error: redis.RedisError, url: str) -> Exception:
    """Return what an error of Redis means: OnlineStoreUnavailableError, without the address's password, or the error itself."""
    if isinstance(error, _AWAY) or any(word in str(error) for word in _REFUSALS):
        return OnlineStoreUnavailableError(redacted(f"Redis at {url} does not do its work ({error}); check TIDEMILL_REDIS__URL and the server"))
    return error
