"""Reads of the online store for an event loop: nobody waits for Redis but the caller."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import redis
from redis.asyncio import BlockingConnectionPool, Redis

from tidemill.shared.application.plan import Plan
from tidemill.shared.online_store.layout import EntityLayout, entity_layouts, layout_of
from tidemill.shared.online_store.packing import remembered_ms, unpack_rows
from tidemill.shared.online_store.redis_names import RedisNames, refusal
from tidemill.shared.online_store.rows import FeatureRows, checked_keys

_CONNECTIONS = 32


class RedisFeatureReader:
    """The reading half of `RedisOnlineStore`, with the same answers and the same errors, as coroutines of one event loop.

    Parameters
    ----------
    timeout_s
        How long a call may take, waiting for one of the 32 connections included.
    """

    def __init__(self, url: str, plan: Plan, clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000, timeout_s: float = 2.0) -> None:
        self._url, self._names, self._partitions = url, RedisNames(plan.application.app), plan.application.partitions
        self._layouts, self._clock_ms = entity_layouts(plan), clock_ms
        pool = BlockingConnectionPool.from_url(
            url, max_connections=_CONNECTIONS, timeout=timeout_s, socket_timeout=timeout_s, socket_connect_timeout=timeout_s
        )
        self._client = Redis.from_pool(pool)

    @property
    def layouts(self) -> Mapping[str, EntityLayout]:
        """The layout of every entity."""
        return self._layouts

    async def read_features(self, entity: str, keys: Sequence[str]) -> FeatureRows:
        """Return one row per key; raises as `OnlineStore.read_features` does."""
        layout = layout_of(self._layouts, entity)
        asked = checked_keys(keys)
        prefix = self._names.prefix(layout)
        names = [(prefix + key).encode() for key in asked]
        try:
            rows = cast(list[bytes | None], await self._client.mget(names)) if names else []
            rebuilding = None in rows and await self._rebuilding(layout)
        except redis.RedisError as error:
            raise refusal(error, self._url) from error
        remembered = None if layout.ttl_ms is None else remembered_ms(layout.ttl_ms)
        return unpack_rows(layout, asked, rows, self._clock_ms(), remembered, rebuilding)

    async def ping(self) -> bool:
        """Tell whether Redis answers."""
        try:
            return bool(await self._client.ping())
        except redis.RedisError:
            return False

    async def close(self) -> None:
        """Disconnect."""
        await self._client.aclose()

    async def _rebuilding(self, layout: EntityLayout) -> bool:
        pipeline = self._client.pipeline(transaction=False)
        for partition in range(self._partitions):
            pipeline.hexists(self._names.state(layout, partition), "complete_to")
        return not all(await pipeline.execute())
