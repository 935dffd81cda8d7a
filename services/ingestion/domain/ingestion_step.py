"""What one step of ingestion gives, as columns: journal entries, duplicates, late rows, counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.ingestion.domain.cleaning import DELETES, NON_FINITE
from tidemill.services.ingestion.domain.journal_run import JournalRun
from tidemill.services.ingestion.domain.raw import SKIPPED, CleanRows
from tidemill.services.ingestion.domain.rejections import Rejections
from tidemill.services.ingestion.domain.sequencing import ReleasedEvents
from tidemill.services.ingestion.domain.stream_writers import WrittenRows
from tidemill.shared.application.plan import ExpectationPlan, StreamPlan
from tidemill.shared.application.schemas import DELETED

TIME = pa.timestamp("ms")
FUTURE = "future"


@dataclass(frozen=True, slots=True)
class IngestionStep:
    """One step's results and counts.

    Attributes
    ----------
    duplicates, late
        By stream, columns of `tidemill.Duplicate` and `tidemill.Late`.
    released
        Raw records per stream that this step accounts for; heartbeats and what is skipped are not among them.
    flagged
        Accepted records for which a flagging expectation did not hold, by (stream, expectation). `non_finite` are those in which a NaN or an
        infinity became null, `future` those dated too far ahead and accepted by declaration; `tombstone`, `skipped_delete` and `skipped_update` are
        changes of Debezium's that are no events.
    written
        By stream, how the released records were written.
    events
        Every stream's released rows, heartbeats included, with their journal times, shape (n,).
    """

    journal: JournalRun
    rejections: Rejections
    duplicates: Mapping[str, pa.RecordBatch]
    late: Mapping[str, pa.RecordBatch]
    released: Mapping[str, int]
    flagged: Mapping[tuple[str, str], int]
    written: Mapping[str, WrittenRows] = field(default_factory=dict)
    events: Sequence[tuple[ReleasedEvents, NDArray[np.int64]]] = ()


@dataclass(frozen=True, slots=True)
class AcceptedRows:
    """What a stream adds to the journal in a step.

    Attributes
    ----------
    entries, keys
        Journal entries and their keys.
    late
        Columns of `tidemill.Late` for those that are late; None where none is.
    flags : int64 array, shape (n,)
        As `CleanRows` has them.
    """

    entries: pa.RecordBatch
    keys: pa.Array
    late: pa.RecordBatch | None
    flags: NDArray[np.int64]


def flags_of_accepted(part: ReleasedEvents, flags: NDArray[np.int64], flagging: Sequence[ExpectationPlan]) -> dict[tuple[str, str], int]:
    """Count the accepted records of a stream for which something is noted, by (stream, what)."""
    counts = [(expectation.name, int(np.count_nonzero((flags >> bit) & 1))) for bit, expectation in enumerate(flagging)]
    counts += [("non_finite", int(np.count_nonzero(flags & NON_FINITE))), (FUTURE, int(np.count_nonzero(part.future & part.accepted)))]
    return {(part.stream.name, what): count for what, count in counts if count}


def flags_of_skipped(part: ReleasedEvents) -> dict[tuple[str, str], int]:
    """Count the records of a stream that are no events, by (stream, what)."""
    if not part.rows.skipped.any():
        return {}
    counts = {what: int(np.count_nonzero(part.rows.flags & flag)) for what, flag in SKIPPED.items()}
    return {(part.stream.name, what): count for what, count in counts.items() if count}


def written_rows(part: ReleasedEvents, times: NDArray[np.int64]) -> WrittenRows:
    """Return how a stream's records were written, those left out that are none."""
    rows = part.rows
    if not part.silent.any():
        return WrittenRows(times, rows.writers, rows.refused, rows.partition, rows.offsets)
    kept = np.flatnonzero(~part.silent)
    return WrittenRows(times[kept], rows.writers[kept], rows.refused[kept], rows.partition[kept], rows.offsets[kept])


def addresses(stream: StreamPlan, rows: CleanRows, times: NDArray[np.int64], chosen: NDArray[np.int64]) -> pa.RecordBatch:
    """Return where chosen rows came from and what they are, the columns that duplicates and late rows share."""
    n = len(chosen)
    return pa.RecordBatch.from_pydict(
        {
            "stream": pa.array([stream.name] * n),
            "event_id": rows.columns.column("_event_id").take(pa.array(chosen)),
            "source_topic": pa.array([stream.topic] * n),
            "source_partition": pa.array(rows.partition[chosen]),
            "source_offset": pa.array(rows.offsets[chosen]),
            "journal_time": pa.array(times[chosen]).cast(TIME),
        }
    )


def journal_entries(
    stream: StreamPlan,
    columns: pa.RecordBatch,
    times: NDArray[np.int64],
    is_late: NDArray[np.bool_],
    rows: CleanRows,
    good: NDArray[np.int64] | slice,
) -> pa.RecordBatch:
    """Return a stream's rows as they are journaled."""
    made = {
        "_journal_time": pa.array(times).view(TIME),
        "_event_id": columns.column("_event_id"),
        "_event_time": columns.column("_event_time"),
        "_late": pa.array(is_late),
        "_source_partition": pa.array(rows.partition[good]),
        "_source_offset": pa.array(rows.offsets[good]),
    }
    if stream.is_reference:
        made[DELETED] = pa.array((rows.flags[good] & DELETES) != 0)
    schema = stream.entry_arrow
    return pa.RecordBatch.from_arrays([made[name] if name in made else columns.column(name) for name in schema.names], schema=schema)
