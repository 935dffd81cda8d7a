"""The online store on Redis: packed values, written many to a script call, guarded against going back in time."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tidemill.shared.application.plan import Plan
from tidemill.shared.online_store.layout import EntityLayout, entity_layouts, layout_of
from tidemill.shared.online_store.packing import HEAD, pack_keys, pack_values, remembered_ms, unpack_rows
from tidemill.shared.online_store.redis_names import RedisNames, refusal
from tidemill.shared.online_store.rows import FeatureRows, checked_keys
from tidemill.shared.online_store.store import FeatureSlice, FillState, Receipt

# A script call keeps readers waiting for about 4 us per value (benchmarks/online_reads.py): half a millisecond.
_VALUES_PER_CALL = 128
_KEYS_PER_READ = 1_000
_NOT_COMPLETE = -1
_GUARDED_WRITE = """
local state, known, fresh, complete = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local prefix, head, lifetime, size, ends, names, values = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[8], ARGV[9], ARGV[10]
local call, sub, unpack = redis.call, string.sub, struct.unpack
local generation = call('HGET', state, 'generation')
if not generation then
  call('HSET', state, 'generation', fresh)
  generation = fresh
end
local offset = unpack('>i8', head)
local written, begin = 0, 0
for i = 0, #ends / 4 - 1 do
  local stop = unpack('<i4', ends, i * 4 + 1)
  local key = prefix .. sub(names, begin + 1, stop)
  begin = stop
  local old = call('GETRANGE', key, 0, 7)
  if old == '' or unpack('>i8', old) <= offset then
    local value = head .. sub(values, i * size + 1, (i + 1) * size)
    if lifetime == '0' then call('SET', key, value) else call('SET', key, value, 'PX', lifetime) end
    written = written + 1
  end
end
if complete == '1' and generation == known then
  local before = call('HGET', state, 'complete_to')
  if not before or tonumber(before) < offset then call('HSET', state, 'complete_to', string.format('%.0f', offset)) end
end
return {written, generation}
"""


class RedisOnlineStore:
    """Features of one application in Redis.

    Keys are those of `RedisNames`. Safe to use from several threads.

    Parameters
    ----------
    url
        Address of Redis.
    plan
        The application: its name, partitions, layouts.
    clock_ms
        Wall clock, for expiry and ages: writers and readers on several machines need theirs in step.
    remember_ms
        How much longer than its time to live a value is known to have expired; None: as long again (see `remembered_ms`).
    timeout_s
        How long a call may take.
    """

    def __init__(
        self,
        url: str,
        plan: Plan,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        remember_ms: int | None = None,
        timeout_s: float = 2.0,
    ) -> None:
        self._url, self._names, self._partitions = url, RedisNames(plan.application.app), plan.application.partitions
        self._layouts = entity_layouts(plan)
        self._clock_ms, self._remember_ms = clock_ms, remember_ms
        # One retry, for a connection that a restart of Redis has broken. Waiting longer is the caller's business.
        retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
        self._client = redis.Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=retry)
        self._write = self._client.register_script(_GUARDED_WRITE)

    @property
    def layouts(self) -> Mapping[str, EntityLayout]:
        """The layout of every entity."""
        return self._layouts

    def write(self, entity: str, part: FeatureSlice) -> Receipt:
        """Write the values that are not older than what is there.

        Raises
        ------
        OnlineStoreUnavailableError
            Part of the slice may have been written; nothing is lost by calling again with the same.
        """
        layout = layout_of(self._layouts, entity)
        expires, lifetime = 0, 0
        if layout.ttl_ms is not None:
            expires, lifetime = self._clock_ms() + layout.ttl_ms, layout.ttl_ms + self._remembered_ms(layout.ttl_ms)
        head = HEAD.pack(part.journal_offset, part.journal_time_ms, expires)
        state, prefix, fresh = self._names.state(layout, part.partition), self._names.prefix(layout), secrets.token_hex(8)
        size, count = 8 * len(layout.features), len(part.keys)
        packed = memoryview(pack_values(part.keys, part.values, layout))
        written, generation = 0, b""
        for begin in range(0, max(count, 1), _VALUES_PER_CALL):
            end = min(begin + _VALUES_PER_CALL, count)
            ends, names = pack_keys(part.keys[begin:end])
            complete = int(part.completes and end == count)
            values = bytes(packed[begin * size : end * size])
            arguments: list[bytes | str | int] = [part.generation, fresh, complete, prefix, head, lifetime, size, ends, names, values]
            try:
                answer = cast(tuple[int, bytes], self._write([state], arguments))
            except redis.RedisError as error:
                raise refusal(error, self._url) from error
            written += answer[0]
            generation = answer[1]
        return Receipt(written, generation.decode())

    def standing(self, entity: str, partition: int) -> FillState | None:
        """Return how far a task had filled the store; None when it knows nothing of it; OnlineStoreUnavailableError."""
        layout = layout_of(self._layouts, entity)
        try:
            generation, complete_to = cast(
                list[bytes | None], self._client.hmget(self._names.state(layout, partition), ["generation", "complete_to"])
            )
        except redis.RedisError as error:
            raise refusal(error, self._url) from error
        return None if generation is None else FillState(generation.decode(), _NOT_COMPLETE if complete_to is None else int(complete_to))

    def read_features(self, entity: str, keys: Sequence[str], now_ms: int | None = None) -> FeatureRows:
        """Return one row per key.

        Raises
        ------
        UnknownEntityError, OnlineStoreUnavailableError, CorruptValueError
            As the port says.
        TypeError, UnicodeEncodeError
            The keys are not text, or not text that UTF-8 has.
        """
        layout = layout_of(self._layouts, entity)
        asked = checked_keys(keys)
        prefix = self._names.prefix(layout)
        names = [(prefix + key).encode() for key in asked]
        rows: list[bytes | None] = []
        try:
            for begin in range(0, len(names), _KEYS_PER_READ):
                rows += cast(list[bytes | None], self._client.mget(names[begin : begin + _KEYS_PER_READ]))
            rebuilding = None in rows and self._rebuilding(layout)
        except redis.RedisError as error:
            raise refusal(error, self._url) from error
        remembered = None if layout.ttl_ms is None else self._remembered_ms(layout.ttl_ms)
        return unpack_rows(layout, asked, rows, self._clock_ms() if now_ms is None else now_ms, remembered, rebuilding)

    def ping(self) -> bool:
        """Tell whether Redis answers."""
        try:
            return bool(self._client.ping())
        except redis.RedisError:
            return False

    def close(self) -> None:
        """Disconnect."""
        self._client.close()

    def _rebuilding(self, layout: EntityLayout) -> bool:
        pipeline = self._client.pipeline(transaction=False)
        for partition in range(self._partitions):
            pipeline.hexists(self._names.state(layout, partition), "complete_to")
        return not all(pipeline.execute())

    def _remembered_ms(self, ttl_ms: int) -> int:
        return remembered_ms(ttl_ms) if self._remember_ms is None else self._remember_ms
