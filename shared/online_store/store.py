"""Online features by entity in Redis: what the views knew after an entity's last request, guarded against going back in time."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import redis
from numpy.typing import NDArray

_HEAD = struct.Struct(">qq")
_BATCH = 500
_TIMEOUT_S = 2.0
# The first eight bytes are the journal offset, big-endian: a value that follows from an earlier record never replaces a later one.
_GUARDED_SET = """
local written = 0
for i = 1, #KEYS do
  local old = redis.call('GETRANGE', KEYS[i], 0, 7)
  if old == '' or struct.unpack('>i8', old) <= struct.unpack('>i8', ARGV[i + 1]) then
    if ARGV[1] == '0' then redis.call('SET', KEYS[i], ARGV[i + 1]) else redis.call('SET', KEYS[i], ARGV[i + 1], 'PX', ARGV[1]) end
    written = written + 1
  end
end
return written
"""


class OnlineStoreUnreachableError(RuntimeError):
    """Redis does not answer: names the address."""


@dataclass(frozen=True, slots=True)
class OnlineFeatures:
    """Features of one entity.

    Attributes
    ----------
    journal_offset, journal_time_ms
        The request they were computed for.
    values : float64 array, shape (features,)
        In the order of `entity_features`; NaN where missing.
    """

    journal_offset: int
    journal_time_ms: int
    values: NDArray[np.float64]


class OnlineStore:
    """Packed feature vectors of one application.

    Parameters
    ----------
    url
        Address of Redis.
    app
        Prefix of every key.
    """

    def __init__(self, url: str, app: str) -> None:
        self._url, self._app = url, app
        self._client = redis.Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
        self._set = self._client.register_script(_GUARDED_SET)

    def put(self, entity: str, features: Mapping[str, OnlineFeatures], ttl_ms: int | None) -> int:
        """Write one value per key unless Redis has one of a later journal offset; returns how many were written.

        Raises
        ------
        OnlineStoreUnreachableError
            Nothing is lost by calling again with the same.
        """
        keys = [self._key(entity, key) for key in features]
        packed = [_HEAD.pack(one.journal_offset, one.journal_time_ms) + one.values.astype("<f8").tobytes() for one in features.values()]
        written = 0
        try:
            for begin in range(0, len(keys), _BATCH):
                chunk = slice(begin, begin + _BATCH)
                written += int(self._set(keys=keys[chunk], args=[str(ttl_ms or 0), *packed[chunk]]))  # type: ignore[arg-type, unused-ignore]
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise self._unreachable(error) from error
        return written

    def get(self, entity: str, key: str) -> OnlineFeatures | None:
        """Return an entity's features; None when it has never been asked about (or not within its time to live)."""
        try:
            value = self._client.get(self._key(entity, key))
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise self._unreachable(error) from error
        if value is None:
            return None
        content = bytes(value)  # type: ignore[arg-type, unused-ignore]
        offset, time = _HEAD.unpack_from(content)
        return OnlineFeatures(offset, time, np.frombuffer(content, "<f8", offset=_HEAD.size))

    def ping(self) -> bool:
        """Tell whether Redis answers."""
        try:
            return bool(self._client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    def close(self) -> None:
        """Disconnect."""
        self._client.close()

    def _key(self, entity: str, key: str) -> str:
        return f"{self._app}:{entity}:{key}"

    def _unreachable(self, error: Exception) -> OnlineStoreUnreachableError:
        return OnlineStoreUnreachableError(f"Redis at {self._url} does not answer ({error}); check TIDEMILL_REDIS__URL and that it runs")
