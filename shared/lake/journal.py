"""The archived journal, read back in its order: the entries of all streams of a partition, as the batches a fold takes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from tidemill.shared.application.journal import JournalBatch, JournalGroup
from tidemill.shared.application.plan import Plan, StreamPlan
from tidemill.shared.application.schemas import DELETED
from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.lake.names import journal_table
from tidemill.shared.lake.tables import Lake, instant

PARTITION, OFFSET, TIME = "_journal_partition", "_journal_offset", "_journal_time"
_SPAN = 65_536


class UnfitArchiveError(RuntimeError):
    """The lake does not hold what the application needs (crash): the message says which table and column."""


class ArchivedJournal:
    """The journal tables of an application at the versions they had when this was made.

    Ticks are not archived: they move time on and hold nothing. A table is a stream that had records; a stream without a table had none
    (`absent` names them). Columns that the application derives and the archive does not have are derived from those it has.

    Parameters
    ----------
    span
        Journal offsets read at a time: at most so many rows are in memory.

    Raises
    ------
    UnfitArchiveError
        No journal, or a column that is neither there nor derived from what is there.
    """

    def __init__(self, lake: Lake, plan: Plan, span: int = _SPAN) -> None:
        self._span = span
        self._streams = plan.streams
        self.versions: dict[str, int] = {}
        self.identities: dict[str, str] = {}
        self._tables: dict[str, ds.Dataset] = {}
        for name, stream in plan.streams.items():
            table = journal_table(name)
            if lake.exists(table):
                self.versions[table] = lake.version(table)
                self.identities[table] = lake.identity(table)
                self._tables[name] = lake.dataset(table, self.versions[table])
                _check_columns(stream, self._tables[name].schema, lake.uri(table))
        self.absent = [name for name in plan.streams if name not in self._tables]
        if not any(name in self._tables for name in plan.asking_streams):
            asking = ", ".join(journal_table(name) for name in plan.asking_streams)
            raise UnfitArchiveError(
                f"expected an archived journal of requests ({asking}) in {lake.uri('')}, found none; archive writes it; look at --run, --lake"
            )
        self._ends = self._bounds()

    def _bounds(self) -> dict[int, tuple[int, int]]:
        """First and last offset by partition."""
        bounds: dict[int, tuple[int, int]] = {}
        for table in self._tables.values():
            for batch in table.to_batches(columns=[PARTITION, OFFSET]):
                partitions, offsets = (batch.column(i).to_numpy(zero_copy_only=False) for i in range(2))
                for partition in np.unique(partitions).tolist():
                    own = offsets[partitions == partition]
                    first, last = bounds.get(partition, (int(own[0]), int(own[0])))
                    bounds[partition] = (min(first, int(own.min())), max(last, int(own.max())))
        return bounds

    @property
    def partitions(self) -> list[int]:
        """Partitions with records, ascending."""
        return sorted(self._ends)

    def bounds(self, partition: int) -> tuple[int, int]:
        """Return the first and the last archived offset of a partition."""
        return self._ends[partition]

    def offset_at(self, partition: int, time_ms: int) -> int:
        """Return the first offset at or after a journal time; one behind the last when there is none."""
        wanted = (ds.field(PARTITION) == partition) & (ds.field(TIME) >= instant(time_ms))
        least = self._ends[partition][1] + 1
        for table in self._tables.values():
            for batch in table.to_batches(columns=[OFFSET], filter=wanted):
                if batch.num_rows:
                    least = min(least, pc.min(batch.column(0)).as_py())
        return least

    def batches(self, partition: int, begin: int = 0, before_ms: int | None = None) -> Iterator[JournalBatch]:
        """Read a partition from an offset on, up to a journal time (exclusive), in order.

        Journal time never runs backwards, so what comes before a time is a beginning of the journal.
        """
        first, last = self._ends[partition]
        end = last + 1 if before_ms is None else self.offset_at(partition, before_ms)
        for at in range(max(begin, first), end, self._span):
            batch = self._span_of(partition, at, min(end, at + self._span))
            if batch is not None:
                yield batch

    def of_stream(self, stream: str, partition: int, until: int, **equal: Any) -> tuple[NDArray[np.int64], pa.RecordBatch]:  # values of any type
        """Return one stream's entries up to an offset (inclusive), in order, and their offsets.

        Parameters
        ----------
        equal
            Columns that have to hold a value; a null holds none.
        """
        plan = self._streams[stream]
        table = self._tables.get(stream)
        if table is None:
            return np.empty(0, np.int64), pa.RecordBatch.from_pylist([], plan.entry_arrow)
        wanted = (ds.field(PARTITION) == partition) & (ds.field(OFFSET) <= until)
        for name, value in equal.items():
            if name in table.schema.names:
                wanted &= ds.field(name) == value
        rows = table.to_table(filter=wanted).sort_by(OFFSET).combine_chunks()
        offsets, entries = np.asarray(rows.column(OFFSET).to_numpy(), np.int64), _entries(plan, rows)
        for name, value in equal.items():
            same = pc.fill_null(pc.equal(entries.column(name), pa.scalar(value, entries.schema.field(name).type)), False)
            offsets, entries = offsets[same.to_numpy(zero_copy_only=False)], entries.filter(same)
        return offsets, entries

    def _span_of(self, partition: int, begin: int, end: int) -> JournalBatch | None:
        wanted = (ds.field(PARTITION) == partition) & (ds.field(OFFSET) >= begin) & (ds.field(OFFSET) < end)
        spans: dict[str, tuple[NDArray[np.int64], pa.RecordBatch]] = {}
        for name, table in self._tables.items():
            rows = table.to_table(filter=wanted).sort_by(OFFSET).combine_chunks()
            if rows.num_rows:
                spans[name] = np.asarray(rows.column(OFFSET).to_numpy(), np.int64), _entries(self._streams[name], rows)
        if not spans:
            return None
        joined = np.concatenate([offsets for offsets, _ in spans.values()])
        order = np.argsort(joined, kind="stable")
        offsets = joined[order]
        if (np.diff(offsets) <= 0).any():
            twice = int(offsets[:-1][np.diff(offsets) <= 0][0])
            raise UnfitArchiveError(
                f"expected every journal record once, found partition {partition} offset {twice} twice; the lake was written twice"
            )
        times, index = np.empty(len(offsets), np.int64), np.empty(len(offsets), np.int16)
        groups = {}
        for name, (own, columns) in spans.items():
            rows_at = np.searchsorted(offsets, own)
            times[rows_at], index[rows_at] = int64_ms(columns.column(TIME)), self._streams[name].index
            groups[name] = JournalGroup(rows_at, columns)
        groups = {name: groups[name] for name in sorted(groups, key=lambda name: self._streams[name].index)}
        return JournalBatch(partition, offsets, times, index, [None] * len(offsets), groups)


def _check_columns(stream: StreamPlan, archived: pa.Schema, uri: str) -> None:
    have = set(archived.names)
    derived = dict(stream.derivations)
    for field in stream.entry_arrow:
        if field.name in have or field.name in derived or field.name == DELETED:
            continue
        known = ", ".join(name for name in archived.names if not name.startswith("_journal"))
        raise UnfitArchiveError(
            f"stream {stream.name}: expected column {field.name} ({field.type}) in {uri}, which has {known}; "
            "what was not in the journal cannot be computed over it: keep it out of the new version, or use it from here on"
        )


def _entries(stream: StreamPlan, rows: pa.Table) -> pa.RecordBatch:
    """Return rows of the lake as the journal's entries: its columns and its types."""
    expressions = dict(stream.derivations)
    columns: dict[str, pa.Array] = {}
    missing = []
    for field in stream.entry_arrow:
        if field.name in rows.schema.names:
            column = rows.column(field.name).combine_chunks()
            column = column.fill_null(False) if field.name == DELETED else column
            try:
                columns[field.name] = column.cast(field.type)
            except pa.ArrowException as error:
                raise UnfitArchiveError(
                    f"stream {stream.name}: expected column {field.name} as {field.type}, found {column.type} in the lake: {error}"
                ) from error
        elif field.name == DELETED:
            # Rows from before rows could be deleted.
            columns[field.name] = pa.array(np.zeros(rows.num_rows, np.bool_))
        else:
            missing.append(field)
    for field in missing:
        known = pa.RecordBatch.from_pydict(columns)
        derived = expressions[field.name].evaluate(known).cast(field.type)
        # As at ingestion's door: a result that is no number is no value.
        numbers = pa.types.is_floating(derived.type)
        columns[field.name] = pc.if_else(pc.is_finite(derived), derived, pa.scalar(None, derived.type)) if numbers else derived
    return pa.RecordBatch.from_arrays([columns[name] for name in stream.entry_arrow.names], schema=stream.entry_arrow)
