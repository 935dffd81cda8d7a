"""Which schemas the records of a stream are written with, day by day, and what changes: a fold over what is released."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.services.ingestion.domain.json_fields import JsonFields, NameRoom
from tidemill.shared.avro.schema_fields import FieldChange, SchemaField, differences
from tidemill.shared.avro.writer_ids import only_writer

DAY_MS = 86_400_000
_KNOWN_KEPT = 100
_NEW_A_DAY = 20
_COUNTED_A_DAY = 100
# Of all streams together: a progress record has them all, and no topic takes more than 1 MB unless somebody has set it.
NAMES_BYTES = 96 << 10
_JSON = json.JSONEncoder(separators=(",", ":"))
Names = Callable[[int], tuple[str, ...]]
Schemas = Callable[[int], Mapping[str, SchemaField]]


@dataclass(frozen=True, slots=True)
class WrittenRows:
    """Released records of a stream in order, shape (n,) each.

    Attributes
    ----------
    times
        Journal times, milliseconds.
    writers
        Schema id of each; below 0 a number that stands for the fields of a record in JSON, and 0 where nothing is known.
    """

    times: NDArray[np.int64]
    writers: NDArray[np.int64]
    refused: NDArray[np.bool_]
    partition: NDArray[np.int32]
    offsets: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """What is new in how a stream's records are written, told once when the day is over in which it began.

    Attributes
    ----------
    schema_id, previous_id
        Of the writer that is new and of the one before it, by which most records of the last day came; -1 for JSON.
    first_ms
        Journal time of its first record; where fields of JSON are gone, of the last record that had them.
    source_partition, source_offset
        Where that record stands; -1 for JSON.
    day
        Days since the epoch.
    records, refused, of
        Of the stream in that day: those that the change concerns, those of them that were refused, and all.
    """

    stream: str
    schema_id: int
    previous_id: int
    first_ms: int
    source_partition: int
    source_offset: int
    day: int
    records: int
    refused: int
    of: int
    changes: tuple[FieldChange, ...]

    @property
    def time_ms(self) -> int:
        """The day's last instant."""
        return (self.day + 1) * DAY_MS - 1


@dataclass(slots=True)
class StreamWriters:
    """The writers of one stream. What one record does does not depend on how records come in steps.

    Attributes
    ----------
    usual
        The writer of most records of the last day that had any; at first that of the first record. -1: none yet.
    known
        Schema ids that have been told, or were there at the beginning.
    day, closed
        The day that is not over, -1: none; the last one that is.
    rows
        Records of the day that is not over.
    today
        By schema id: records of that day, refused ones; the first hundred ids, since all of this stands in every progress record.
    first
        Of today's new writers: journal time, partition and offset of the first record.
    fields
        Of records in JSON.
    name_bytes
        Room for the names of its fields that are no columns, in the snapshot.
    """

    stream: str
    columns: Mapping[str, str]
    usual: int = -1
    known: list[int] = field(default_factory=list)
    day: int = -1
    closed: int = -1
    rows: int = 0
    today: dict[int, list[int]] = field(default_factory=dict)
    first: dict[int, list[int]] = field(default_factory=dict)
    fields: JsonFields = field(default_factory=JsonFields)
    name_bytes: int = NAMES_BYTES
    # The last snapshot, as long as it holds: most streams have no record in most steps.
    _text: str | None = None

    @property
    def _room(self) -> NameRoom:
        return NameRoom(self.columns.keys(), self.name_bytes // 2, self.name_bytes // 4)

    def needed(self) -> set[int]:
        """Return the schema ids whose schemas the end of the day is told by."""
        return {self.usual, *self.first} - {-1} if self.first else set()

    def absorb(self, rows: WrittenRows, names: Names, schemas: Schemas) -> list[SchemaChange]:
        """Count released records; returns what is told of days that are over."""
        said: list[SchemaChange] = []
        times, writers, refused = rows.times, rows.writers, rows.refused
        for day, begin, end in _days(times, max(self.day, self.closed + 1)):
            said += self.close(day, schemas)
            self.day, self._text = day, None
            part = slice(begin, end)
            self.rows += end - begin
            by_writer = _by_value(writers[part])
            for writer, first, places in by_writer:
                if writer > 0:
                    own, at = refused[part][places], begin + first
                    self._count(writer, len(own), int(np.count_nonzero(own)), [int(times[at]), int(rows.partition[at]), int(rows.offsets[at])])
            if any(writer < 0 for writer, _, _ in by_writer):
                self._absorb_json(writers[part], refused[part], times[part], names)
        return said

    def _absorb_json(self, writers: NDArray[np.int64], refused: NDArray[np.bool_], times: NDArray[np.int64], names: Names) -> None:
        in_json = np.cumsum(writers < 0)
        for count, chosen in ((self.fields.accept, ~refused), (self.fields.refuse, refused)):
            own = np.flatnonzero((writers < 0) & chosen)
            for writer, _, places in _by_value(writers[own]) if len(own) else ():
                count(names(writer), in_json[own[places]] - 1, times[own[places]], self._room)
        self.fields.passed(int(in_json[-1]))

    def close(self, day: int, schemas: Schemas) -> list[SchemaChange]:
        """Return what is told of the day that has records if it is before `day`."""
        if self.day < 0 or day <= self.day:
            return []
        self._text = None
        said, all_today = [], self.rows
        for writer, (first_ms, partition, offset) in self.first.items():
            records, refused = self.today[writer]
            changes = tuple(differences(schemas(self.usual), schemas(writer), self.columns))
            said.append(SchemaChange(self.stream, writer, self.usual, first_ms, partition, offset, self.day, records, refused, all_today, changes))
        change = self.fields.close(self.columns, self._room)
        if change is not None:
            said.append(
                SchemaChange(self.stream, -1, -1, change.first_ms, -1, -1, self.day, change.records, change.refused, all_today, change.changes)
            )
        if self.today:
            self.usual = max(self.today, key=lambda writer: (self.today[writer][0], writer))
        self.known = [*self.known, *self.first][-_KNOWN_KEPT:]
        self.today, self.first, self.closed, self.day, self.rows = {}, {}, self.day, -1, 0
        return said

    def _count(self, writer: int, records: int, refused: int, first: list[int]) -> None:
        if self.usual < 0:
            self.usual = writer
            self.known.append(writer)
        if writer not in self.known and writer not in self.first and len(self.first) < _NEW_A_DAY and len(self.today) < _COUNTED_A_DAY:
            self.first[writer] = first
        if writer not in self.today and len(self.today) >= _COUNTED_A_DAY:
            return
        count = self.today.setdefault(writer, [0, 0])
        count[0], count[1] = count[0] + records, count[1] + refused

    def snapshot(self) -> str:
        """State as text of JSON; empty before the first record."""
        if self._text is None:
            self._text = self._encoded()
        return self._text

    def _encoded(self) -> str:
        if self.usual < 0 and not self.fields.rows and not self.rows:
            return ""
        today = [[writer, *count] for writer, count in self.today.items()]
        first = [[writer, *place] for writer, place in self.first.items()]
        own = {"usual": self.usual, "known": self.known, "day": self.day, "closed": self.closed, "rows": self.rows}
        return _JSON.encode({**own, "today": today, "first": first, "fields": self.fields.snapshot()})

    def load(self, text: str) -> None:
        """Take up a snapshot."""
        self._text = None
        state: Mapping[str, Any] = json.loads(text)
        self.usual, self.known, self.rows = state["usual"], list(state["known"]), state["rows"]
        self.day, self.closed = state["day"], state["closed"]
        self.today = {writer: count for writer, *count in state["today"]}
        self.first = {writer: place for writer, *place in state["first"]}
        self.fields = JsonFields.load(state["fields"])


def _days(times: NDArray[np.int64], least: int) -> list[tuple[int, int, int]]:
    """Return each day, and where its rows begin and end.

    The time of a record that does not enter the journal may lie before that of another one, and in a day that is told already: it counts with the
    day that is not over.
    """
    if not len(times):
        return []
    first, last = int(times.min()) // DAY_MS, int(times.max()) // DAY_MS
    if first == last or last <= least:
        return [(max(first, least), 0, len(times))]
    days = np.maximum(np.maximum.accumulate(times // DAY_MS), least)
    cuts = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]
    return [(int(days[begin]), begin, end) for begin, end in pairwise(cuts)]


def _by_value(values: NDArray[np.int64]) -> list[tuple[int, int, slice | NDArray[np.int64]]]:
    """Return each value, its first row and all of its rows, values in the order of their first row."""
    only = only_writer(values)
    if only is not None:
        return [(only, 0, slice(None))]
    distinct, at = np.unique(values, return_index=True)
    return [(int(distinct[k]), int(at[k]), np.flatnonzero(values == distinct[k])) for k in np.argsort(at)]
