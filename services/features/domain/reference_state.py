"""The latest row of a reference stream per key, as of every request."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.features.domain.entities import EntityIndex
from tidemill.services.features.domain.kernels.compiled import entry
from tidemill.shared.application.column_roles import feature_values
from tidemill.shared.application.plan import FeaturePlan, StreamPlan
from tidemill.shared.application.schemas import DELETED
from tidemill.shared.avro.arrow_types import int64_ms

_Column = NDArray[np.float64] | NDArray[np.object_]
_FEWEST = 64
_NEVER = -(1 << 62)


@entry
def _latest(  # pragma: no cover
    update_rows, update_slots, update_times, deletes, offsets, ask_rows, ask_slots, time, included, newest, reach, chosen
):  # fmt: skip
    """For each request the update before it that counts (its number), or -1: what was there before the batch.

    A row counts unless the one that is there has a newer event time; a deletion always does, and leaves nothing that a later row must be newer than.
    `newest` and `reach` (slots,) are scratch, all -1 and anything; `newest` ends as the update that counts after the batch.
    """
    k = 0
    for i in range(ask_rows.size + 1):
        while k < update_rows.size and (i == ask_rows.size or update_rows[k] < ask_rows[i]):
            slot = update_slots[k]
            if slot >= 0 and offsets[k] > included[slot]:
                if newest[slot] < 0:
                    reach[slot] = time[slot] if included[slot] >= 0 else _NEVER
                if deletes[k] or update_times[k] >= reach[slot]:
                    newest[slot] = k
                    reach[slot] = _NEVER if deletes[k] else update_times[k]
            k += 1
        if i < ask_rows.size:
            chosen[i] = newest[ask_slots[i]] if ask_slots[i] >= 0 else -1


@dataclass(frozen=True, slots=True)
class _Updates:
    """Rows of a reference stream in a run of the journal; arrays of k rows.

    Attributes
    ----------
    slots
        Of their keys; -1 for none.
    times
        Event times, ms.
    deletes
        Whether a row deletes what is known of its key.
    values
        A column a feature.
    """

    slots: NDArray[np.int64]
    times: NDArray[np.int64]
    deletes: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    values: Sequence[_Column]


class ReferenceState:
    """Joins requests with the row of their key that was the latest when they came, unless it was older than the stream's `max_age`.

    The latest row is the one with the newest event time; of two with the same, the one that came later. A row dated ahead of its journal time by
    more than the allowed skew counts as dated so far ahead and no further. A record without a value deletes the row.
    """

    def __init__(self, stream: StreamPlan, features: tuple[FeaturePlan, ...]) -> None:
        self.stream = stream
        self.features = tuple(feature for feature in features if feature.origin == "reference" and feature.source == stream.name)
        self.index = EntityIndex()
        self._columns: list[_Column] = [
            np.empty(_FEWEST, object) if feature.type == "string" else np.full(_FEWEST, np.nan) for feature in self.features
        ]
        self._time = np.zeros(_FEWEST, np.int64)
        self._included = np.full(_FEWEST, -1, np.int64)
        self._dirty: dict[int, int] = {}

    def _reserve(self, slots: int) -> None:
        if slots <= len(self._time):
            return
        more = max(slots, 2 * len(self._time)) - len(self._time)
        self._columns = [np.concatenate([c, np.empty(more, object) if c.dtype == object else np.full(more, np.nan)]) for c in self._columns]
        self._time = np.concatenate([self._time, np.zeros(more, np.int64)])
        self._included = np.concatenate([self._included, np.full(more, -1, np.int64)])

    def fold(
        self,
        updates: pa.RecordBatch | None,
        update_rows: NDArray[np.int64],
        offsets: NDArray[np.int64],
        ask_keys: pa.Array,
        ask_rows: NDArray[np.int64],
        ask_times: NDArray[np.int64],
        update_times: NDArray[np.int64],
    ) -> list[pa.Array]:
        """Apply the updates and return one column per feature for the requests.

        Parameters
        ----------
        update_rows, ask_rows
            Positions in the journal batch, ascending: a request sees the updates before it.
        offsets
            Journal offsets of the updates.
        ask_times, update_times : int64 (asks,), (updates,)
            Journal times of the requests and of the updates, ms.
        """
        asked = self.index.slots(ask_keys)
        slots = self.index.slots(updates.column(self.stream.key)) if updates is not None else np.empty(0, np.int64)
        self._reserve(len(self.index))
        chosen = np.full(len(asked), -1, np.int64)
        if updates is None or not len(slots):
            return self._answers(asked, chosen, None, ask_times)
        times = np.minimum(int64_ms(updates.column("_event_time")), update_times + self.stream.allowed_skew_ms)
        deletes = np.asarray(updates.column(DELETED).to_numpy(zero_copy_only=False), np.bool_)
        newest = np.full(len(self.index), -1, np.int64)
        _latest(update_rows, slots, times, deletes, offsets, ask_rows, asked, self._time, self._included, newest, np.empty_like(newest), chosen)
        fresh = _Updates(slots, times, deletes, offsets, self._values(updates))
        answers = self._answers(asked, chosen, fresh, ask_times)
        self._apply(fresh, newest)
        return answers

    def _values(self, updates: pa.RecordBatch) -> list[_Column]:
        columns: list[_Column] = []
        for feature in self.features:
            column = updates.column(feature.column)
            if feature.type == "string":
                columns.append(np.array(column.cast(pa.string()).to_pylist(), object))
            else:
                columns.append(np.asarray(feature_values(column, pa.float64()).to_numpy(zero_copy_only=False), np.float64))
        return columns

    def _answers(self, asked: NDArray[np.int64], chosen: NDArray[np.int64], updates: _Updates | None, ask_times: NDArray[np.int64]) -> list[pa.Array]:
        """Return a column a feature; `chosen` are the updates that count, -1 where the row that was there before does."""
        here, update = chosen >= 0, np.maximum(chosen, 0)
        slot = np.maximum(asked, 0)
        known = here | ((asked >= 0) & (self._included[slot] >= 0))
        time = self._time[slot]
        if updates is not None:
            time = np.where(here, updates.times[update], time)
            known &= ~(here & updates.deletes[update])
        known &= ask_times - time <= (self.stream.max_age_ms or 0)
        columns = []
        for i, feature in enumerate(self.features):
            value = self._columns[i][slot]
            if updates is not None:
                value = np.where(here, updates.values[i][update], value)
            if feature.type == "string":
                columns.append(pa.array(value, pa.string(), mask=~known))
            else:
                columns.append(pa.array(value, pa.float64(), mask=~known | np.isnan(value)))
        return columns

    def _apply(self, updates: _Updates, newest: NDArray[np.int64]) -> None:
        """Take the updates up; `newest` (slots,) is the one that counts after them, -1 for none."""
        slots, offsets = updates.slots, updates.offsets
        new = np.flatnonzero((slots >= 0) & (offsets > self._included[slots]))
        for slot, offset in zip(slots[new].tolist(), offsets[new].tolist(), strict=True):
            self._dirty.setdefault(slot, offset)
        # Of several updates of a key NumPy's assignment keeps the last.
        self._included[slots[new]] = offsets[new]
        changed = np.flatnonzero(newest >= 0)
        row = newest[changed]
        for column, values in zip(self._columns, updates.values, strict=True):
            column[changed] = values[row]
        self._time[changed] = updates.times[row]
        # What is deleted is as if it had never been known: nothing is kept of it, here or in the checkpoint.
        self._included[changed[updates.deletes[row]]] = -1

    @property
    def oldest_dirty_offset(self) -> int | None:
        """Journal offset of the oldest change no blob includes."""
        return min(self._dirty.values()) if self._dirty else None

    def take_dirty(self) -> list[tuple[int, bytes | None]]:
        """Pack every changed row; None for one that is deleted."""
        packed: list[tuple[int, bytes | None]] = []
        for slot in sorted(self._dirty):
            if self._included[slot] < 0:
                packed.append((slot, None))
                continue
            values = [value if isinstance(value, str) else None if value != value or value is None else float(value) for value in self._row(slot)]
            packed.append((slot, json.dumps([int(self._included[slot]), int(self._time[slot]), values]).encode()))
        self._dirty.clear()
        return packed

    def _row(self, slot: int) -> list[float | str | None]:
        return [column[slot] for column in self._columns]

    def unpack(self, slot: int, blob: bytes) -> None:
        """Load one row as `take_dirty` packed it."""
        self._reserve(slot + 1)
        included, time, values = json.loads(blob)
        for column, value in zip(self._columns, values, strict=True):
            column[slot] = value if column.dtype == object or value is not None else np.nan
        self._time[slot], self._included[slot] = time, included
