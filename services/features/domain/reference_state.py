"""The latest row of a reference stream per key, as of every request."""

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from services.features.domain.compiled import entry
from services.features.domain.entities import EntityIndex
from shared.application.plan import FeaturePlan, StreamPlan
from shared.avro.arrow_types import int64_ms

_FEWEST = 64


@entry
def _latest(update_rows, update_slots, ask_rows, ask_slots, newest, chosen):  # type: ignore[no-untyped-def]  # pragma: no cover
    """For each request the update before it (its number), or -1: what was there before the batch. `newest` (slots,) is scratch, all -1."""
    k = 0
    for i in range(ask_rows.size):
        while k < update_rows.size and update_rows[k] < ask_rows[i]:
            newest[update_slots[k]] = k
            k += 1
        chosen[i] = newest[ask_slots[i]] if ask_slots[i] >= 0 else -1


class ReferenceState:
    """Joins requests with the row of their key that was the latest when they came, unless it was older than the stream's `max_age`."""

    def __init__(self, stream: StreamPlan, features: tuple[FeaturePlan, ...]) -> None:
        self.stream = stream
        self.features = tuple(feature for feature in features if feature.origin == "reference" and feature.source == stream.name)
        self.index = EntityIndex()
        self._columns: list[NDArray[np.float64] | NDArray[np.object_]] = [
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
    ) -> list[pa.Array]:
        """Apply the updates and return one column per feature for the requests.

        Parameters
        ----------
        update_rows, ask_rows
            Positions in the journal batch, ascending: a request sees the updates before it.
        offsets
            Journal offsets of the updates.
        ask_times : int64 (asks,)
            Journal times of the requests, ms.
        """
        asked = self.index.slots(ask_keys)
        slots = self.index.slots(updates.column(self.stream.key)) if updates is not None else np.empty(0, np.int64)
        self._reserve(len(self.index))
        chosen = np.full(len(asked), -1, np.int64)
        if len(slots):
            _latest(update_rows, slots, ask_rows, asked, np.full(len(self.index), -1, np.int64), chosen)
        fresh = self._values(updates) if updates is not None else []
        times = int64_ms(updates.column("_event_time")) if updates is not None else np.empty(0, np.int64)
        answers = self._answers(asked, chosen, fresh, times, ask_times)
        if len(slots):
            self._apply(slots, fresh, times, offsets)
        return answers

    def _values(self, updates: pa.RecordBatch) -> list[NDArray[np.float64] | NDArray[np.object_]]:
        found: list[NDArray[np.float64] | NDArray[np.object_]] = []
        for feature in self.features:
            column = updates.column(feature.column)
            if feature.type == "string":
                found.append(np.array(column.cast(pa.string()).to_pylist(), object))
            else:
                found.append(np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64))
        return found

    def _answers(
        self,
        asked: NDArray[np.int64],
        chosen: NDArray[np.int64],
        fresh: Sequence[NDArray[np.float64] | NDArray[np.object_]],
        times: NDArray[np.int64],
        ask_times: NDArray[np.int64],
    ) -> list[pa.Array]:
        here = chosen >= 0
        slot = np.maximum(asked, 0)
        known = here | ((asked >= 0) & (self._included[slot] >= 0))
        time = self._time[slot]
        if len(times):
            time = np.where(here, times[np.maximum(chosen, 0)], time)
        known &= ask_times - time <= (self.stream.max_age_ms or 0)
        columns = []
        for i, feature in enumerate(self.features):
            value = self._columns[i][slot]
            if len(times):
                value = np.where(here, fresh[i][np.maximum(chosen, 0)], value)
            if feature.type == "string":
                columns.append(pa.array(value, pa.string(), mask=~known))
            else:
                columns.append(pa.array(value, pa.float64(), mask=~known | np.isnan(value)))
        return columns

    def _apply(
        self,
        slots: NDArray[np.int64],
        fresh: Sequence[NDArray[np.float64] | NDArray[np.object_]],
        times: NDArray[np.int64],
        offsets: NDArray[np.int64],
    ) -> None:
        new = np.flatnonzero((slots >= 0) & (offsets > self._included[slots]))
        for slot, offset in zip(slots[new].tolist(), offsets[new].tolist(), strict=True):
            self._dirty.setdefault(slot, offset)
        # Of several updates of a key NumPy's assignment keeps the last.
        for column, values in zip(self._columns, fresh, strict=True):
            column[slots[new]] = values[new]
        self._time[slots[new]] = times[new]
        self._included[slots[new]] = offsets[new]

    @property
    def oldest_dirty_offset(self) -> int | None:
        """Journal offset of the oldest change no blob includes."""
        return min(self._dirty.values()) if self._dirty else None

    def take_dirty(self) -> list[tuple[int, bytes]]:
        """Pack every changed row."""
        packed = []
        for slot in sorted(self._dirty):
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
