"""Raw records after decoding and cleaning, and the queue in which they wait for their place in the order."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.shared.avro.columns import DecodedColumns
from tidemill.shared.log.packed import taken

SKIPPED = {"tombstone": 1 << 60, "skipped_delete": 1 << 59, "skipped_update": 1 << 58}
"""Flags of records that are no events, by what they are counted as."""
SKIPS = sum(SKIPPED.values())
ENDS = 1 << 57
"""Flag of a heartbeat that says that its partition has ended."""


@dataclass(frozen=True, slots=True)
class RawChunk:
    """Records of one raw topic partition, decoded.

    Attributes
    ----------
    offsets, timestamps_ms : int64 arrays, shape (n,)
    heartbeat : bool array, shape (n,)
    keys, values
        Raw bytes, for dead letters. A record that has no value and is no heartbeat deletes a reference row.
    decoded
        Over all n records; heartbeats are in neither its rows nor its errors. Of a stream of changes its writers are those of the envelopes.
    deletes : bool array, shape (decoded.batch.num_rows,), or None
        Rows that delete the row of their key; None: no row does.
    flags
        Of records that are no events and not refused either, by position: they are in neither `decoded`'s rows nor its errors. Of heartbeats `ENDS`.
    """

    partition: int
    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    heartbeat: NDArray[np.bool_]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    decoded: DecodedColumns
    deletes: NDArray[np.bool_] | None = None
    flags: Mapping[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.offsets)


@dataclass(frozen=True, slots=True)
class RecordVerdict:
    """Why a record is refused: a stable code, and what was expected and what came."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class CleanRows:
    """A run of raw records of one stream, judged one by one; refused rows and heartbeats have null columns.

    Attributes
    ----------
    columns
        User and derived columns, `_key`, `_event_id` (string), `_event_time` (timestamp), n rows.
    refused, heartbeat : bool arrays, shape (n,)
    flags : int64 array, shape (n,)
        Bit e is set where flagging expectation e does not hold.
    verdicts
        By row, for refused rows.
    writers : int64 array, shape (n,)
        As `DecodedColumns` has them.
    """

    columns: pa.RecordBatch
    refused: NDArray[np.bool_]
    heartbeat: NDArray[np.bool_]
    flags: NDArray[np.int64]
    partition: NDArray[np.int32]
    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    verdicts: Mapping[int, RecordVerdict]
    writers: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def skipped(self) -> NDArray[np.bool_]:
        """Records that are no events and not refused either, shape (n,)."""
        return np.asarray((self.flags & SKIPS) != 0, np.bool_) & ~self.refused

    def part(self, begin: int, end: int) -> "CleanRows":
        """Return rows [begin, end)."""
        span = slice(begin, end)
        return CleanRows(
            self.columns.slice(begin, end - begin), self.refused[span], self.heartbeat[span], self.flags[span], self.partition[span],
            self.offsets[span], self.timestamps_ms[span], self.keys[span], self.values[span],
            {row - begin: verdict for row, verdict in self.verdicts.items() if begin <= row < end} if self.verdicts else {},
            self.writers[span],
        )  # fmt: skip

    def refusing(self, verdicts: Mapping[int, RecordVerdict]) -> "CleanRows":
        """Return the same with some more rows refused; a verdict that a row has already stands."""
        refused = self.refused.copy()
        refused[list(verdicts)] = True
        return replace(self, refused=refused, verdicts={**verdicts, **self.verdicts})

    def take(self, rows: NDArray[np.int64]) -> "CleanRows":
        """Return the rows in another order."""
        place = {int(row): i for i, row in enumerate(rows)} if self.verdicts else {}
        return CleanRows(
            self.columns.take(pa.array(rows)), self.refused[rows], self.heartbeat[rows], self.flags[rows], self.partition[rows],
            self.offsets[rows], self.timestamps_ms[rows], taken(self.keys, rows), taken(self.values, rows),
            {place[row]: verdict for row, verdict in self.verdicts.items()}, self.writers[rows],
        )  # fmt: skip


def concatenate(parts: Sequence[CleanRows]) -> CleanRows:
    """Join runs of one stream."""
    if len(parts) == 1:
        return parts[0]
    begins = np.cumsum([0, *(len(part) for part in parts)]).tolist()
    return CleanRows(
        pa.concat_batches([part.columns for part in parts]),
        np.concatenate([part.refused for part in parts]),
        np.concatenate([part.heartbeat for part in parts]),
        np.concatenate([part.flags for part in parts]),
        np.concatenate([part.partition for part in parts]),
        np.concatenate([part.offsets for part in parts]),
        np.concatenate([part.timestamps_ms for part in parts]),
        [key for part in parts for key in part.keys],
        [value for part in parts for value in part.values],
        {begin + row: verdict for begin, part in zip(begins, parts, strict=False) for row, verdict in part.verdicts.items()},
        np.concatenate([part.writers for part in parts]),
    )


class WaitingRows:
    """Rows of one raw topic partition that the merge has not released, oldest first."""

    def __init__(self) -> None:
        self._parts: deque[CleanRows] = deque()
        self._end: int | None = None

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    @property
    def records(self) -> int:
        """Rows that are not heartbeats."""
        return sum(len(part) - int(part.heartbeat.sum()) for part in self._parts)

    @property
    def position(self) -> int | None:
        """Offset of the oldest row held, else the one after the newest ever taken; None before the first."""
        return int(self._parts[0].offsets[0]) if self._parts else self._end

    def add(self, rows: CleanRows) -> None:
        """Append."""
        if len(rows):
            self._parts.append(rows)
            self._end = int(rows.offsets[-1]) + 1

    def take(self, count: int) -> list[CleanRows]:
        """Remove the oldest `count` rows and return them, in runs."""
        taken = []
        while count:
            first = self._parts.popleft()
            if len(first) > count:
                self._parts.appendleft(first.part(count, len(first)))
                first = first.part(0, count)
            taken.append(first)
            count -= len(first)
        return taken
