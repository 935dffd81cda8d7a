"""The state of one view: columns over entity slots, and a pool of ring buffers for its windows."""

import struct

import numpy as np
from numpy.typing import NDArray

from services.features.domain.kernel import CODES, WHOLE_HISTORY, fold_view
from shared.application.plan import ViewPlan

_FIRST_RING = 8
_HEAD = struct.Struct("<qqqqi")


class ViewState:
    """Folds records of one view and answers requests.

    Exact at the granularity of single records. Memory: 16 bytes per record (one value) inside the longest window, plus about
    100 bytes per entity and window.
    """

    def __init__(self, view: ViewPlan) -> None:
        self.view = view
        self.expressions = list({a.value.sql: a.value for a in view.aggregates if a.value is not None}.values())
        by_sql = {expression.sql: i for i, expression in enumerate(self.expressions)}
        windows = sorted({a.window_ms for a in view.aggregates if a.window_ms is not None})
        decays = sorted({(a.half_life_ms, by_sql[a.value.sql]) for a in view.aggregates if a.half_life_ms is not None and a.value is not None})
        self._windows = np.array(windows, np.int64)
        self._half_lives = np.array([h for h, _ in decays], np.float64)
        self._half_life_value = np.array([v for _, v in decays], np.int64)
        self._agg_kind = np.array([CODES[a.kind] for a in view.aggregates], np.int64)
        self._agg_window = np.array([windows.index(a.window_ms) if a.window_ms is not None else WHOLE_HISTORY for a in view.aggregates], np.int64)
        self._agg_value = np.array([by_sql[a.value.sql] if a.value is not None else 0 for a in view.aggregates], np.int64)
        self._agg_decay = np.array(
            [
                decays.index((a.half_life_ms, by_sql[a.value.sql])) if a.half_life_ms is not None and a.value is not None else 0
                for a in view.aggregates
            ],
            np.int64,
        )
        self._values = max(1, len(self.expressions))
        self._slots = 0
        self._pool_used = 0
        self._pool_time = np.zeros(1024, np.int64)
        self._pool_value = np.zeros((1024, self._values), np.float64)
        self._allocate(64)
        self._dirty: dict[int, int] = {}

    def _allocate(self, slots: int) -> None:
        w, v, d = len(self._windows), self._values, len(self._half_lives)
        fresh = {
            "start": np.zeros(slots, np.int64),
            "capacity": np.zeros(slots, np.int64),
            "pointer": np.zeros((slots, w), np.int64),
            "tail": np.zeros(slots, np.int64),
            "count": np.zeros((slots, w + 1, v), np.int64),
            "total": np.zeros((slots, w + 1, v)),
            "square": np.zeros((slots, w + 1, v)),
            "shift": np.full((slots, v), np.nan),
            "low": np.full((slots, v), np.inf),
            "high": np.full((slots, v), -np.inf),
            "last_value": np.full((slots, v), np.nan),
            "last_time": np.full(slots, -1, np.int64),
            "decay_sum": np.zeros((slots, d)),
            "decay_weight": np.zeros((slots, d)),
            "decay_time": np.zeros((slots, d), np.int64),
            "included": np.full(slots, -1, np.int64),
            "records": np.zeros(slots, np.int64),
        }
        if self._slots:
            for name, column in fresh.items():
                column[: self._slots] = self._columns[name][: self._slots]
        self._columns: dict[str, NDArray[np.float64] | NDArray[np.int64]] = fresh
        self._capacity_slots = slots

    def _reserve(self, slots: int, updates: NDArray[np.int64]) -> None:
        """Make room for `slots` entities and for the records that `updates` (slots, with repeats) will add."""
        if slots > self._capacity_slots:
            self._allocate(max(slots, 2 * self._capacity_slots))
        self._slots = max(self._slots, slots)
        if not len(self._windows) or not len(updates):
            return
        touched, extra = np.unique(updates, return_counts=True)
        columns = self._columns
        oldest = columns["pointer"][touched].min(axis=1)
        need = columns["tail"][touched] - oldest + extra
        for slot, wanted in zip(
            touched[need > columns["capacity"][touched]].tolist(), need[need > columns["capacity"][touched]].tolist(), strict=True
        ):
            self._grow_ring(slot, int(wanted))

    def _grow_ring(self, slot: int, wanted: int) -> None:
        columns = self._columns
        capacity = max(_FIRST_RING, 1 << (wanted - 1).bit_length())
        if self._pool_used + capacity > len(self._pool_time):
            room = max(2 * len(self._pool_time), self._pool_used + capacity)
            self._pool_time = np.concatenate([self._pool_time, np.zeros(room - len(self._pool_time), np.int64)])
            self._pool_value = np.concatenate([self._pool_value, np.zeros((room - len(self._pool_value), self._values))])
        oldest, tail = int(columns["pointer"][slot].min()), int(columns["tail"][slot])
        kept = np.arange(oldest, tail)
        source = int(columns["start"][slot]) + (kept & (int(columns["capacity"][slot]) - 1))
        target = self._pool_used + (kept & (capacity - 1))
        self._pool_time[target] = self._pool_time[source]
        self._pool_value[target] = self._pool_value[source]
        columns["start"][slot] = self._pool_used
        columns["capacity"][slot] = capacity
        self._pool_used += capacity

    def fold(
        self,
        slots: int,
        op_slot: NDArray[np.int64],
        op_time: NDArray[np.int64],
        op_offset: NDArray[np.int64],
        op_update: NDArray[np.bool_],
        op_row: NDArray[np.int64],
        op_value: NDArray[np.float64],
        out: NDArray[np.float64],
    ) -> None:
        """Apply the operations in order; `out` (aggregates, rows) takes the answers. `slots` is the size of the entity index."""
        applies = op_update & (op_slot >= 0)
        changed = op_slot[applies]
        self._reserve(slots, changed)
        c = self._columns
        touched, first = np.unique(changed, return_index=True)
        for slot, offset in zip(touched.tolist(), op_offset[applies][first].tolist(), strict=True):
            self._dirty.setdefault(slot, offset)
        fold_view(
            op_slot, op_time, op_offset, op_update, op_row, op_value,
            self._windows, self._half_lives, self._half_life_value, self.view.ttl_ms or 0,
            self._agg_kind, self._agg_window, self._agg_value, self._agg_decay,
            c["start"], c["capacity"], c["pointer"], c["tail"], self._pool_time, self._pool_value,
            c["count"], c["total"], c["square"], c["shift"], c["low"], c["high"],
            c["last_value"], c["last_time"], c["decay_sum"], c["decay_weight"], c["decay_time"], c["included"], c["records"],
            out,
        )  # fmt: skip

    @property
    def oldest_dirty_offset(self) -> int | None:
        """Journal offset of the oldest change no blob includes."""
        return min(self._dirty.values()) if self._dirty else None

    def take_dirty(self, budget_bytes: int) -> list[tuple[int, bytes]]:
        """Pack dirty entities, oldest change first, until the budget is used; they count as written."""
        packed: list[tuple[int, bytes]] = []
        used = 0
        for slot in sorted(self._dirty, key=self._dirty.__getitem__):
            if used >= budget_bytes:
                break
            blob = self._pack(slot)
            packed.append((slot, blob))
            used += len(blob)
        for slot, _ in packed:
            del self._dirty[slot]
        return packed

    def included(self, slot: int) -> int:
        """Journal offset of the last record in an entity's state."""
        return int(self._columns["included"][slot])

    def _pack(self, slot: int) -> bytes:
        c = self._columns
        tail = int(c["tail"][slot])
        oldest = int(c["pointer"][slot].min()) if len(self._windows) else tail
        at = int(c["start"][slot]) + (np.arange(oldest, tail) & (int(c["capacity"][slot]) - 1))
        head = _HEAD.pack(oldest, tail, int(c["last_time"][slot]), int(c["included"][slot]), int(c["records"][slot]))
        return head + b"".join(
            np.ascontiguousarray(part).tobytes()
            for part in (
                c["pointer"][slot], c["count"][slot], c["total"][slot], c["square"][slot], c["shift"][slot], c["low"][slot], c["high"][slot],
                c["last_value"][slot], c["decay_sum"][slot], c["decay_weight"][slot], c["decay_time"][slot],
                self._pool_time[at], self._pool_value[at],
            )
        )  # fmt: skip

    def unpack(self, slot: int, blob: bytes) -> None:
        """Load one entity's state as `take_dirty` packed it."""
        oldest, tail, last_time, included, records = _HEAD.unpack_from(blob)
        self._reserve(slot + 1, np.empty(0, np.int64))
        c = self._columns
        if len(self._windows):
            c["pointer"][slot] = oldest
            c["tail"][slot] = oldest
            self._grow_ring(slot, max(1, tail - oldest))
        at = _HEAD.size
        for name in ("pointer", "count", "total", "square", "shift", "low", "high", "last_value", "decay_sum", "decay_weight", "decay_time"):
            target = c[name]
            part = np.frombuffer(blob, target.dtype, target[slot].size, at)
            target[slot] = part.reshape(target[slot].shape)
            at += part.nbytes
        held = tail - oldest
        if held:
            ring = int(c["start"][slot]) + (np.arange(oldest, tail) & (int(c["capacity"][slot]) - 1))
            self._pool_time[ring] = np.frombuffer(blob, np.int64, held, at)
            self._pool_value[ring] = np.frombuffer(blob, np.float64, held * self._values, at + 8 * held).reshape(held, self._values)
        c["tail"][slot], c["last_time"][slot], c["included"][slot], c["records"][slot] = tail, last_time, included, records
