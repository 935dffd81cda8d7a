"""What is a copy, and what time it is: both at once, for one depends on the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.ingestion.domain.availability_merge import ReleasedRecords
from tidemill.services.ingestion.domain.journal_clock import JournalClock
from tidemill.services.ingestion.domain.known_ids import KnownIds
from tidemill.services.ingestion.domain.raw import CleanRows
from tidemill.services.ingestion.domain.running_maximum import running_maximum
from tidemill.shared.application.plan import StreamPlan
from tidemill.shared.log.records import StateEntry

_KEY = b"key"
_LONG_AGO = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class ReleasedEvents:
    """A stream's released rows in order, with their places in the step.

    Attributes
    ----------
    places : int64 array, shape (n,)
        Increasing.
    accepted, copied : bool arrays, shape (n,)
        Nothing is copied before `Sequencer.settle` has changed both.
    future : bool array, shape (n,)
        Dated further ahead than the stream allows.
    silent : bool array, shape (n,)
        Heartbeats, and what is skipped.
    """

    stream: StreamPlan
    places: NDArray[np.int64]
    rows: CleanRows
    accepted: NDArray[np.bool_]
    copied: NDArray[np.bool_]
    future: NDArray[np.bool_]
    silent: NDArray[np.bool_]


class Sequencer:
    """Tells copies from new events and gives journal times.

    Parameters
    ----------
    clock
        Shared with the caller.
    within_ms
        By event stream, how long after an event a copy of it is recognised, journal time.
    identity_key, spill_folder
        See `KnownIds`.
    """

    def __init__(self, clock: JournalClock, within_ms: Mapping[str, int], identity_key: bytes, spill_folder: Path | None) -> None:
        self._clock = clock
        self._within_ms = dict(within_ms)
        self._key = identity_key
        self._key_is_written = False
        self._folder = spill_folder
        self._tables = self._empty()
        self._shortest_ms = min(self._within_ms.values(), default=0)

    def _empty(self) -> dict[str, KnownIds]:
        return {name: KnownIds(name, within, self._key, self._folder) for name, within in self._within_ms.items()}

    def restore(self, blobs: Mapping[bytes, bytes]) -> None:
        """Load a checkpoint, nothing for none."""
        if _KEY in blobs:
            self._key, self._key_is_written = blobs[_KEY], True
            self._tables = self._empty()
        chunks: dict[str, list[tuple[int, bytes]]] = {name: [] for name in self._tables}
        for place, blob in blobs.items():
            kind, *rest = place.decode().split("|")
            if kind == "ids" and rest[0] in chunks:
                chunks[rest[0]].append((int(rest[1]), blob))
        for name, parts in chunks.items():
            self._tables[name].restore(parts)

    def take_dirty(self) -> list[StateEntry]:
        """Return what has changed since the last call."""
        entries = [] if self._key_is_written else [StateEntry(_KEY, self._key)]
        self._key_is_written = True
        for table in self._tables.values():
            entries += table.take_dirty()
        return entries

    def remember(self, stream: str, event_ids: pa.Array, times_ms: NDArray[np.int64]) -> None:
        """Learn from the journal which events were accepted, in journal order."""
        if stream in self._tables:
            self._tables[stream].remember(event_ids, times_ms)

    def settle(self, judged: Sequence[ReleasedEvents], released: ReleasedRecords) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.bool_]]:
        """Find the copies and give times, together: what is a copy depends on journal time, and copies do not move that.

        Items are settled in stretches in which it is certain, without the exact times, what is a copy. Mostly that is all of them.

        Returns
        -------
        accepted : bool array, shape (n,)
        times : int64 array, shape (n,)
        ticks : bool array, shape (n,)
        """
        n = len(released.source)
        accepted, times, ticks = np.zeros(n, np.bool_), np.empty(n, np.int64), np.zeros(n, np.bool_)
        for part in judged:
            accepted[part.places] = part.accepted
        # What may move journal time: heartbeats, and what is not refused, copies included.
        moving = np.where(accepted | released.heartbeat, released.time_ms, _LONG_AGO)
        events = [(part, self._tables[part.stream.name]) for part in judged if part.stream.name in self._tables]
        hashed = [(part, table, table.hashes(part.rows.columns.column("_event_id"))) for part, table in events]
        begin = 0
        while begin < n:
            earliest = np.maximum(released.time_ms[begin:], self._clock.time_ms)
            latest = np.maximum(running_maximum(moving[begin:], _LONG_AGO), earliest)
            # Of what is refused nobody asks whether it is a copy: a flood of it is one stretch, also where no journal time is known yet.
            asked = np.where(accepted[begin:], latest, _LONG_AGO)
            # One item is always certain: journal time stands where it stands. Mostly a stretch is all there is.
            certain_ms = self._clock.time_ms + self._shortest_ms
            within = n - begin if int(asked.max()) <= certain_ms else int((asked > certain_ms).argmax())
            end = begin + max(1, within)
            claims = []
            for part, table, ids in hashed:
                low, high = np.searchsorted(part.places, (begin, end)).tolist() if end - begin < n else (0, len(part.places))
                rows = low + part.accepted[low:high].nonzero()[0]
                at = part.places[rows]
                slots, certain = table.claim(ids[rows], earliest[at - begin], latest[at - begin])
                end = end if certain == len(rows) else int(at[certain])
                claims.append(_Claim(part, table, ids, rows[:certain], slots))
            new = [claim.decided(end) for claim in claims]
            for claim in new:
                accepted[claim.part.places[claim.part.copied]] = False
            span = slice(begin, end)
            times[span], ticks[span] = self._clock.advance(released.time_ms[span], accepted[span], released.heartbeat[span])
            for claim in new:
                claim.table.settle(claim.ids[claim.rows], claim.slots, times[claim.part.places[claim.rows]])
            begin = end
        return accepted, times, ticks


@dataclass(frozen=True, slots=True)
class _Claim:
    """Rows of a stream that may be new, and their slots in its table (-1 for copies)."""

    part: ReleasedEvents
    table: KnownIds
    ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    slots: NDArray[np.int64]

    def decided(self, end: int) -> "_Claim":
        """Mark the copies before a place; returns the rows before it that are new, and gives the claims behind it back."""
        rows, slots = self.rows, self.slots
        if len(rows) and self.part.places[rows[-1]] >= end:
            inside = int(np.searchsorted(self.part.places[rows], end))
            self.table.give_back(slots[inside:])
            rows, slots = rows[:inside], slots[:inside]
        if not len(slots) or slots.min() >= 0:
            return _Claim(self.part, self.table, self.ids, rows, slots)
        copies = rows[slots < 0]
        self.part.accepted[copies], self.part.copied[copies] = False, True
        return _Claim(self.part, self.table, self.ids, rows[slots >= 0], slots[slots >= 0])
