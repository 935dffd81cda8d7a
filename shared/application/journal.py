"""The journal as columns: entries of several streams and ticks, in one order."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.shared.application.plan import Plan
from tidemill.shared.application.schemas import entry_name
from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.framed import by_schema
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.packed import packed_or_list, taken
from tidemill.shared.log.records import Records

TICK_SCHEMA = (Path(__file__).parents[2] / "schemas" / "tick.avsc").read_text(encoding="utf-8")
TICK = -1


class CorruptJournal(RuntimeError):
    """The journal holds what ingestion never writes: stop, nothing can be derived from it."""


@dataclass(frozen=True, slots=True)
class JournalGroup:
    """The entries of one stream in a batch.

    Attributes
    ----------
    rows : int64 array, shape (k,)
        Positions in the batch, ascending.
    columns
        Entry columns, k rows.
    """

    rows: NDArray[np.int64]
    columns: pa.RecordBatch


@dataclass(frozen=True, slots=True)
class JournalBatch:
    """A run of one journal partition.

    Attributes
    ----------
    offsets, journal_time_ms : int64 arrays, shape (n,)
    stream_index : int16 array, shape (n,)
        Index of the stream in the plan; -1 for ticks.
    groups
        Entries by stream name; streams without entries are absent.
    """

    partition: int
    offsets: NDArray[np.int64]
    journal_time_ms: NDArray[np.int64]
    stream_index: NDArray[np.int16]
    keys: Sequence[bytes | None]
    groups: Mapping[str, JournalGroup]

    def __len__(self) -> int:
        return len(self.offsets)


@dataclass(frozen=True, slots=True)
class JournalColumns:
    """Entries as they were encoded.

    Attributes
    ----------
    stream_index : int16 array, shape (n,)
        Index of the stream in the plan; -1 for ticks.
    time_ms : int64 array, shape (n,)
        Journal times.
    entries
        By index of a stream its entries, in their order.
    """

    stream_index: NDArray[np.int16]
    time_ms: NDArray[np.int64]
    entries: Mapping[int, pa.RecordBatch]

    def __getitem__(self, rows: slice) -> "JournalColumns":
        begin, stop, _ = rows.indices(len(self.stream_index))
        own = self.stream_index[begin:stop]
        entries = {}
        for index, batch in self.entries.items():
            n = np.count_nonzero(own == index)
            if n:
                entries[index] = batch.slice(np.count_nonzero(self.stream_index[:begin] == index), n)
        return JournalColumns(own, self.time_ms[begin:stop], entries)


class JournalDecoder:
    """Decodes journal records of a plan's streams.

    A record that does not decode is no dead letter: ingestion wrote it, so the journal is corrupt and the task stops.
    """

    def __init__(self, plan: Plan, registry: SchemaRegistry) -> None:
        self._registry = registry
        self._streams = list(plan.streams.values())
        self._by_name = {entry_name(stream.name): stream.index for stream in self._streams} | {"Tick": TICK}
        self._decoders = {stream.index: ColumnDecoder(registry, stream.entry_schema) for stream in self._streams} | {
            TICK: ColumnDecoder(registry, TICK_SCHEMA)
        }
        self._index_of: dict[int, int] = {}

    def decode(self, records: Records) -> JournalBatch:
        """Decode a run of journal records; raises CorruptJournal."""
        if isinstance(records.columns, JournalColumns) and self._fits(records.columns):
            return self._handed_on(records, records.columns)
        n = len(records)
        stream_index = np.empty(n, np.int16)
        present = set()
        values = packed_or_list(records.values)
        for schema_id, chosen in by_schema(values):
            present.add(index := self._stream(schema_id, records))
            stream_index[slice(None) if chosen is None else chosen] = index
        times = np.empty(n, np.int64)
        groups: dict[str, JournalGroup] = {}
        for index in sorted(present):
            if len(present) == 1:
                rows, decoded = np.arange(n), self._decoders[index].decode(values)
            else:
                rows = np.flatnonzero(stream_index == index)
                decoded = self._decoders[index].decode(taken(values, rows))
            if decoded.errors:
                first = decoded.errors[0]
                raise CorruptJournal(
                    f"{records.topic}[{records.partition}]@{int(records.offsets[rows[first.index]])}: {first.reason}: {first.detail}"
                )
            times[rows] = int64_ms(decoded.batch.column(0))
            if index != TICK:
                groups[self._streams[index].name] = JournalGroup(rows, decoded.batch)
        return JournalBatch(records.partition, records.offsets, times, stream_index, records.keys, groups)

    def _fits(self, columns: JournalColumns) -> bool:
        return all(batch.schema == self._decoders[index].arrow for index, batch in columns.entries.items())

    def _handed_on(self, records: Records, columns: JournalColumns) -> JournalBatch:
        groups = {
            self._streams[index].name: JournalGroup(np.flatnonzero(columns.stream_index == index), columns.entries[index])
            for index in sorted(columns.entries)
        }
        return JournalBatch(records.partition, records.offsets, columns.time_ms, columns.stream_index, records.keys, groups)

    def _stream(self, schema_id: int, records: Records) -> int:
        if schema_id not in self._index_of:
            name = json.loads(self._registry.schema(schema_id))["name"] if schema_id >= 0 else "(no schema id)"
            if name not in self._by_name:
                raise CorruptJournal(
                    f"{records.topic}[{records.partition}]: expected entries of {sorted(self._by_name)}, found {name} (schema id {schema_id})"
                )
            self._index_of[schema_id] = self._by_name[name]
        return self._index_of[schema_id]
