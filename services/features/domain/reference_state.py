"""The latest row of a reference stream per key, as of every request."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from services.features.domain.entities import EntityIndex
from shared.application.plan import FeaturePlan, StreamPlan
from shared.avro.arrow_types import int64_ms

_TIME = "_event_time"


class ReferenceState:
    """Joins requests with the row of their key that was the latest when they came, unless it was older than the stream's `max_age`."""

    def __init__(self, stream: StreamPlan, features: tuple[FeaturePlan, ...]) -> None:
        self.stream = stream
        self.features = tuple(feature for feature in features if feature.origin == "reference" and feature.source == stream.name)
        self.index = EntityIndex()
        self._columns = [_TIME, *(feature.column for feature in self.features)]
        self._schema = pa.schema([stream.entry_arrow.field(name) for name in self._columns])
        self._rows: dict[int, dict[str, Any]] = {}
        self._included: dict[int, int] = {}
        self._dirty: dict[int, int] = {}

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
        known = sorted(self._rows)
        table = pa.Table.from_pylist([self._rows[slot] for slot in known], schema=self._schema)
        latest = {slot: i for i, slot in enumerate(known)}
        keys = self.index.slots(ask_keys)
        chosen = np.full(len(ask_rows), -1, np.int64)
        update_slots = np.empty(0, np.int64)
        if updates is not None and updates.num_rows:
            table = pa.concat_tables([table, pa.Table.from_batches([updates.select(self._columns)]).cast(self._schema)])
            update_slots = self.index.slots(updates.column(self.stream.key))
        applied = 0
        for i, (row, slot) in enumerate(zip(ask_rows.tolist(), keys.tolist(), strict=True)):
            while applied < len(update_slots) and update_rows[applied] < row:
                latest[int(update_slots[applied])] = len(known) + applied
                applied += 1
            chosen[i] = latest.get(slot, -1)
        for i, slot in enumerate(update_slots.tolist()):
            if offsets[i] > self._included.get(slot, -1):
                self._rows[slot] = table.slice(len(known) + i, 1).to_pylist()[0]
                self._included[slot] = int(offsets[i])
                self._dirty.setdefault(slot, int(offsets[i]))
        return self._answers(table, chosen, ask_times)

    def _answers(self, table: pa.Table, chosen: NDArray[np.int64], ask_times: NDArray[np.int64]) -> list[pa.Array]:
        if table.num_rows and len(chosen):
            times = int64_ms(table.column(_TIME).combine_chunks())
            age = ask_times - times[np.maximum(chosen, 0)]
            chosen = np.where((chosen >= 0) & (age <= (self.stream.max_age_ms or 0)), chosen, -1)
        indices = pa.array(chosen, mask=chosen < 0)
        columns = []
        for feature in self.features:
            kind = pa.string() if feature.type == "string" else pa.float64()
            source = table.column(feature.column).combine_chunks()
            columns.append((source.take(indices) if table.num_rows else pa.nulls(len(chosen), source.type)).cast(kind))
        return columns

    @property
    def oldest_dirty_offset(self) -> int | None:
        """Journal offset of the oldest change no blob includes."""
        return min(self._dirty.values()) if self._dirty else None

    def take_dirty(self) -> list[tuple[int, bytes]]:
        """Pack every changed row."""
        packed = [(slot, json.dumps([self._included[slot], _jsonable(self._rows[slot])]).encode()) for slot in sorted(self._dirty)]
        self._dirty.clear()
        return packed

    def unpack(self, slot: int, blob: bytes) -> None:
        """Load one row as `take_dirty` packed it."""
        included, row = json.loads(blob)
        times = {field.name for field in self._schema if pa.types.is_timestamp(field.type)}
        self._rows[slot] = {
            name: pa.scalar(value, pa.timestamp("ms")).as_py() if name in times and value is not None else value for name, value in row.items()
        }
        self._included[slot] = int(included)


def _jsonable(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: pa.scalar(value, pa.timestamp("ms")).cast(pa.int64()).as_py() if hasattr(value, "isoformat") else value for name, value in row.items()
    }
