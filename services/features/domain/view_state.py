"""The state of one view: a row of words an entity, and a pool of blocks for what grows."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tidemill.services.features.domain.kernels.blobs import pack, sizes, unpack
from tidemill.services.features.domain.kernels.blocks import FIRST_BLOCK, HEADS, POOL_USED
from tidemill.services.features.domain.kernels.kernel import fold_view, release
from tidemill.services.features.domain.kernels.layout_planning import ViewLayout, plan_layout
from tidemill.services.features.domain.kernels.state import Changes, Memory, Operations, Rows
from tidemill.services.features.domain.kernels.words import INCLUDED, NEVER, NEWEST, USED
from tidemill.services.features.domain.memory import reserve_words, touched_bytes
from tidemill.shared.application.plan import ViewPlan
from tidemill.shared.log.packed import Packed

_FEWEST = 256


class MisreadBlobError(RuntimeError):
    """A checkpoint blob is not of this view's layout (crash): rebuild from the journal."""


class ViewState:
    """Folds records of one view and answers requests.

    Sliding windows without a resolution are exact per record and hold every record inside the longest of them (8 bytes and 8 a value); with a
    resolution they hold one cell a step. Memory follows what is held: nothing is copied when it grows.
    """

    def __init__(self, view: ViewPlan, lateness_ms: int) -> None:
        self.view = view
        self.layout: ViewLayout = plan_layout(view, lateness_ms)
        self.prefix = f"view|{view.name}|"
        self.features = tuple(a.feature for a in view.aggregates if a.kind != "ratio")
        self._state = self.layout.state
        self._width = self._state.width
        self._words = reserve_words()
        self._slots = 0
        pool, heads = reserve_words(), np.zeros(HEADS, np.int64)
        heads[POOL_USED] = FIRST_BLOCK
        self._memory = Memory(pool, pool.view(np.float64), heads)
        self._rows = self._first_rows(1)
        self._dirty = np.full(_FEWEST, -1, np.int64)
        self._queue = np.empty(_FEWEST, np.int64)
        self._front = self._queued = 0
        self._limits = np.zeros(len(self._state.windows), np.int64)

    def _first_rows(self, slots: int) -> Rows:
        words = self._words[: slots * self._width].reshape(slots, self._width)
        return Rows(words, words.view(np.float64))

    def _reserve(self, slots: int, more_dirty: int = 0) -> None:
        if slots > self._slots:
            self._slots = slots
            self._rows = self._first_rows(slots)
        if slots > len(self._dirty):
            longer = np.full(max(slots, 2 * len(self._dirty)), -1, np.int64)
            longer[: len(self._dirty)] = self._dirty
            self._dirty = longer
        if self._queued + more_dirty > len(self._queue):
            waiting = self._queue[self._front : self._queued]
            longer = np.empty(max(2 * (len(waiting) + more_dirty), _FEWEST), np.int64)
            longer[: len(waiting)] = waiting
            self._queue, self._front, self._queued = longer, 0, len(waiting)

    def fold(self, slots: int, operations: Operations, out: NDArray[np.float64]) -> None:
        """Apply the operations in order (see `fold_view`); `slots` is the size of the entity index."""
        self._reserve(slots, min(slots, int(operations.update.sum())))
        changes = Changes(self._dirty, self._queue)
        self._queued = fold_view(operations, self._rows, self._memory, self._state, changes, self._queued, out, self._limits)

    @property
    def oldest_dirty_offset(self) -> int | None:
        """Journal offset of the oldest change no blob includes."""
        return int(self._dirty[self._queue[self._front]]) if self._front < self._queued else None

    def take_dirty(self, budget_bytes: int) -> list[tuple[int, bytes]]:
        """Pack dirty entities, oldest change first, until the budget is used (at least one); they count as written."""
        waiting = self._queue[self._front : self._queued]
        if not len(waiting):
            return []
        # No blob is smaller than a row, so no more than this many can fit.
        chosen = waiting[: budget_bytes // (8 * self._width) + 1]
        words = self._sizes(chosen)
        chosen = chosen[: max(1, int(np.searchsorted(8 * np.cumsum(words), budget_bytes, side="right")))].copy()
        self._front += len(chosen)
        self._dirty[chosen] = -1
        return list(zip(chosen.tolist(), self.pack(chosen), strict=True))

    def _sizes(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        words = np.empty(len(slots), np.int64)
        sizes(slots, self._rows, self._state, words)
        return words

    def pack(self, slots: NDArray[np.int64]) -> list[bytes]:
        """Return the blobs of these entities."""
        ends = np.cumsum(self._sizes(slots))
        target = np.empty(int(ends[-1]) if len(ends) else 0, np.int64)
        pack(slots, self._rows, self._memory, self._state, ends, target)
        content = target.tobytes()
        begins = [0, *(8 * ends[:-1]).tolist()]
        return [content[begin:end] for begin, end in zip(begins, (8 * ends).tolist(), strict=True)]

    def unpack(self, slots: NDArray[np.int64], blobs: Sequence[bytes]) -> None:
        """Load entities as `pack` gave them; MisreadBlobError for anything else."""
        if not len(slots):
            return
        self._reserve(int(slots.max()) + 1)
        packed = Packed.of(blobs)
        assert packed is not None  # noqa: S101 - no blob is null
        lengths, begin = packed.lengths, int(packed.stops[0])
        known = self._rows.words[slots, USED] != 0
        for slot in slots[known].tolist():
            self.release(slot)
        source = _words(packed.content[begin : packed.stops[-1]]) if not (lengths % 8).any() else None
        wrong = 0
        if source is not None:
            ends = np.cumsum(lengths // 8)
            wrong = unpack(slots, self._rows, self._memory, self._state, ends, source)
        if wrong >= 0:
            raise MisreadBlobError(f"view {self.view.name}: expected a blob of this view's layout, found {lengths[wrong]} bytes of another")

    def included(self, slot: int) -> int:
        """Journal offset of the last record in an entity's state; -1 when it has none."""
        return int(self._rows.words[slot, INCLUDED]) if slot < self._slots and self._rows.words[slot, USED] else -1

    def idle(self, slots: NDArray[np.int64], now_ms: int) -> NDArray[np.bool_]:
        """Tell which entities' state can be dropped without any answer ever showing it, and is in the checkpoint as it is."""
        inside = slots < self._slots
        rows = self._rows.words[np.where(inside, slots, 0)] if self._slots else np.zeros((len(slots), self._width), np.int64)
        reach = [limit for limit in (self._state.reach_ms, self._state.ttl_ms) if limit > 0]
        newest = rows[:, NEWEST]
        gone = (newest == NEVER) | ((newest < now_ms - min(reach)) if reach else np.zeros(len(slots), np.bool_))
        written = self._dirty[np.where(inside, slots, 0)] < 0
        return np.asarray(~inside | (rows[:, USED] == 0) | (gone & written))

    def release(self, slot: int) -> None:
        """Give an entity's memory back; its slot is as new."""
        if slot < self._slots and self._rows.words[slot, USED]:
            release(slot, self._rows, self._memory, self._state)

    @property
    def held_bytes(self) -> int:
        """Memory behind rows and blocks."""
        return touched_bytes(self._slots * self._width + int(self._memory.heads[POOL_USED]))


def _words(content: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return bytes as words, read-only; copied only where they do not begin at a word."""
    if content.ctypes.data % 8:
        content = content.copy()
        content.flags.writeable = False
    return content.view(np.int64)
