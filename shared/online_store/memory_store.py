"""The online store in memory: for tests and for a reader in the writer's own process."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tidemill.shared.application.plan import Plan
from tidemill.shared.online_store.layout import EntityLayout, entity_layouts, layout_of
from tidemill.shared.online_store.packing import HEAD, pack_values, remembered_ms, unpack_rows
from tidemill.shared.online_store.rows import FeatureRows, checked_keys
from tidemill.shared.online_store.store import FeatureSlice, FillState, OnlineStoreUnavailableError, Receipt


@dataclass
class SharedMemory:
    """What the stores of several applications and versions share, as they would share a Redis; `away` makes it unavailable."""

    values: dict[tuple[str, str, str, str], bytes] = field(default_factory=dict)
    standings: dict[tuple[str, str, str, int], FillState] = field(default_factory=dict)
    away: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def flush(self) -> None:
        """Lose everything."""
        with self.lock:
            self.values.clear()
            self.standings.clear()


class MemoryOnlineStore:
    """OnlineStore in the memory of this process; the parameters are those of `RedisOnlineStore`. Forgotten values still take memory."""

    def __init__(
        self,
        plan: Plan,
        memory: SharedMemory | None = None,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        remember_ms: int | None = None,
    ) -> None:
        self._app, self._partitions = plan.application.app, plan.application.partitions
        self._layouts = entity_layouts(plan)
        self._memory = SharedMemory() if memory is None else memory
        self._clock_ms, self._remember_ms = clock_ms, remember_ms

    @property
    def layouts(self) -> Mapping[str, EntityLayout]:
        """The layout of every entity."""
        return self._layouts

    def write(self, entity: str, part: FeatureSlice) -> Receipt:
        """Write the values that are not older than what is there."""
        layout = layout_of(self._layouts, entity)
        packed, size = pack_values(part.keys, part.values, layout), 8 * len(layout.features)
        head = HEAD.pack(part.journal_offset, part.journal_time_ms, 0 if layout.ttl_ms is None else self._clock_ms() + layout.ttl_ms)
        state = (self._app, entity, layout.digest, part.partition)
        written = 0
        with self._open() as memory:
            standing = memory.standings.setdefault(state, FillState(secrets.token_hex(8), -1))
            for row, key in enumerate(part.keys):
                address = (self._app, entity, layout.digest, key)
                old = memory.values.get(address)
                if old is None or HEAD.unpack_from(old)[0] <= part.journal_offset:
                    memory.values[address] = head + packed[row * size : (row + 1) * size]
                    written += 1
            if part.completes and standing.generation == part.generation:
                memory.standings[state] = FillState(standing.generation, max(standing.complete_to, part.journal_offset))
        return Receipt(written, standing.generation)

    def standing(self, entity: str, partition: int) -> FillState | None:
        """Return how far a task had filled the store; None when it knows nothing of it."""
        layout = layout_of(self._layouts, entity)
        with self._open() as memory:
            return memory.standings.get((self._app, entity, layout.digest, partition))

    def read_features(self, entity: str, keys: Sequence[str], now_ms: int | None = None) -> FeatureRows:
        """Return one row per key."""
        layout = layout_of(self._layouts, entity)
        asked = checked_keys(keys)
        for key in asked:
            key.encode()
        with self._open() as memory:
            rows = [memory.values.get((self._app, entity, layout.digest, key)) for key in asked]
            states = [memory.standings.get((self._app, entity, layout.digest, partition)) for partition in range(self._partitions)]
        rebuilding = None in rows and not all(state is not None and state.complete_to >= 0 for state in states)
        remembered = None
        if layout.ttl_ms is not None:
            remembered = remembered_ms(layout.ttl_ms) if self._remember_ms is None else self._remember_ms
        return unpack_rows(layout, asked, rows, self._clock_ms() if now_ms is None else now_ms, remembered, rebuilding)

    def ping(self) -> bool:
        """Tell whether the store answers."""
        return not self._memory.away

    def close(self) -> None:
        """Nothing to disconnect."""

    @contextmanager
    def _open(self) -> Iterator[SharedMemory]:
        if self._memory.away:
            raise OnlineStoreUnavailableError("the store in memory is away")
        with self._memory.lock:
            yield self._memory
