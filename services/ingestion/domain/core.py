"""Ingestion's rules: validate, clean, deduplicate and sequence; accepted + rejected + duplicates = raw, at every step."""

import json
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.ingestion.domain.availability_merge import AvailabilityMerge
from tidemill.services.ingestion.domain.cleaning import Cleaner
from tidemill.services.ingestion.domain.identity_hash import KEY_BYTES
from tidemill.services.ingestion.domain.ingestion_step import (
    FUTURE,
    TIME,
    AcceptedRows,
    IngestionStep,
    addresses,
    flags_of_accepted,
    flags_of_skipped,
    journal_entries,
    written_rows,
)
from tidemill.services.ingestion.domain.journal_clock import TICK, JournalClock
from tidemill.services.ingestion.domain.journal_run import JournalRun
from tidemill.services.ingestion.domain.raw import CleanRows, RawChunk, RecordVerdict, WaitingRows, concatenate
from tidemill.services.ingestion.domain.rejections import Rejections
from tidemill.services.ingestion.domain.running_maximum import running_maximum
from tidemill.services.ingestion.domain.sequencing import ReleasedEvents, Sequencer
from tidemill.shared.application.plan import Plan, StreamPlan
from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.avro.chosen_rows import chosen_rows
from tidemill.shared.log.records import StateEntry

_CLOCK = b"clock"
# Beyond any data set that is replayed while it still grows: its labels' horizon and a slice lie ahead of the host's clock at most.
FARTHEST_AHEAD_MS = 400 * 86_400_000


class IngestionCore:
    """The fold behind the journal. Pure; live or replayed is the caller's business (`idle`, `tick_ms`).

    All it has to remember is in the journal itself (`remember`): ids accepted, newest event times, journal time, last tick. A checkpoint
    (`take_dirty`) spares reading it from the beginning.

    What one record says of time touches itself only. Its event time may lie ahead of the availability reached so far by the stream's allowed skew
    and no more, and the newest event time, against which lateness is measured, never passes the journal time of the record that set it.

    Parameters
    ----------
    partition
        The journal partition this core writes; records whose key belongs elsewhere are refused.
    reference_partitions
        Partitions of reference topics, all of which every core reads; 1 where a topic is not named.
    identity_key
        16 secret bytes under which ids are remembered; a checkpoint brings its own.
    spill_folder
        Where tables that may outgrow memory lie; None: with other temporary files.
    """

    def __init__(
        self,
        plan: Plan,
        partition: int,
        reference_partitions: Mapping[str, int] | None = None,
        identity_key: bytes = bytes(KEY_BYTES),
        spill_folder: Path | None = None,
    ) -> None:
        self._streams = list(plan.streams.values())
        counts = reference_partitions or {}
        self.inputs: list[tuple[str, int]] = []
        for stream in self._streams:
            partitions = range(counts.get(stream.topic, 1)) if stream.is_reference else (partition,)
            self.inputs.extend((stream.name, p) for p in partitions)
        self._input_of = {place: i for i, place in enumerate(self.inputs)}
        self._merge = AvailabilityMerge(len(self.inputs))
        self._waiting = [WaitingRows() for _ in self.inputs]
        self._cleaners = {stream.name: Cleaner(stream, partition, plan.application.partitions) for stream in self._streams}
        self._clock = JournalClock()
        within = {stream.name: stream.deduplicate_within_ms for stream in self._streams if not stream.is_reference}
        self._sequencer = Sequencer(self._clock, within, identity_key, spill_folder)
        self._newest_event: dict[str, int] = {}
        self._reached_ms = 0
        self._written: bytes | None = None

    @property
    def inversions(self) -> int:
        """Records whose timestamp ran backwards within their topic partition."""
        return self._merge.inversions

    @property
    def journal_time_ms(self) -> int:
        """Time of the newest journal record."""
        return self._clock.time_ms

    @property
    def covered_ms(self) -> int:
        """Every instant up to this one is complete in the journal."""
        return self._clock.covered_ms

    def waiting(self, stream: str) -> int:
        """Records of a stream that are read but not released."""
        return sum(waiting.records for (name, _), waiting in zip(self.inputs, self._waiting, strict=True) if name == stream)

    def positions(self) -> dict[tuple[str, int], int]:
        """Offset of the oldest item not released (else the next one) per (stream, partition) that has been read."""
        known = ((place, waiting.position) for place, waiting in zip(self.inputs, self._waiting, strict=True))
        return {place: position for place, position in known if position is not None}

    def restore(self, entries: Sequence[StateEntry]) -> None:
        """Load a checkpoint, nothing for none; called before anything else."""
        blobs = {entry.key: entry.value for entry in entries if entry.value is not None}
        self._written = blobs.pop(_CLOCK, None)
        self._sequencer.restore(blobs)
        if self._written is not None:
            clock = json.loads(self._written)
            self.remember_time(clock["journal_time"], clock["tick"])
            self._newest_event = {name: time for name, time in clock["newest_event"].items() if name in self._cleaners}

    def take_dirty(self) -> list[StateEntry]:
        """Return what has changed since the last call; with the journal's records since then it is the whole state."""
        clock = {"journal_time": self._clock.time_ms, "tick": self._clock.tick_ms, "newest_event": dict(sorted(self._newest_event.items()))}
        blob = json.dumps(clock).encode()
        entries = [StateEntry(_CLOCK, blob)] if blob != self._written else []
        self._written = blob
        return entries + self._sequencer.take_dirty()

    def remember(self, stream: str, event_ids: pa.Array, event_times_ms: NDArray[np.int64], journal_times_ms: NDArray[np.int64]) -> None:
        """Learn from the journal which events an earlier incarnation had accepted, in journal order."""
        self._sequencer.remember(stream, event_ids, journal_times_ms)
        if len(event_times_ms):
            known = np.minimum(event_times_ms, journal_times_ms)
            self._newest_event[stream] = max(self._newest_event.get(stream, int(known[0])), int(known.max()))

    def remember_time(self, journal_time_ms: int, tick_ms: int | None) -> None:
        """Learn from the journal its newest time and its newest tick."""
        self._clock.remember(journal_time_ms, tick_ms)
        self._reached_ms = max(self._reached_ms, self._clock.time_ms)

    def clean(self, stream: str, chunk: RawChunk) -> CleanRows:
        """Judge raw records by themselves; changes nothing."""
        return self._cleaners[stream].clean(chunk)

    def add(self, stream: str, partition: int, rows: CleanRows, latest_ms: int | None = None, farthest_ms: int | None = None) -> None:
        """Take the next records of a raw topic partition.

        Parameters
        ----------
        latest_ms
            Live runs: no record counts as available later than this, or, without a timestamp (negative), earlier.
        farthest_ms
            Replays: a record stamped later than this is refused (`future`), a heartbeat promises nothing; neither moves the merge.
        """
        source = self._input_of[stream, partition]
        times = rows.timestamps_ms
        if latest_ms is not None:
            times = np.where(times < 0, latest_ms, np.minimum(times, latest_ms))
        elif farthest_ms is not None and len(times) and int(times.max()) > farthest_ms:
            beyond = times > farthest_ms
            times = np.maximum(np.maximum.accumulate(np.where(beyond, 0, times)), 0)
            limit = np.datetime64(farthest_ms, "ms")
            rows = rows.refusing(
                {
                    row: RecordVerdict(FUTURE, f"expected a record timestamp up to {limit}Z, found {int(rows.timestamps_ms[row])} ms")
                    for row in np.flatnonzero(beyond & ~rows.heartbeat).tolist()
                }
            )
        self._merge.add(source, times, rows.heartbeat)
        self._waiting[source].add(rows)

    def mark_ms(self) -> int:
        """Return the journal time of a mark: that of the record before it. What is read there as a tick is one to the clock as well."""
        return self._clock.tick(self._clock.time_ms)

    def release(self, idle: Set[tuple[str, int]] = frozenset(), tick_ms: int | None = None, held: Set[str] = frozenset()) -> IngestionStep:
        """Sequence whatever is certain.

        Parameters
        ----------
        idle
            (stream, partition) whose end is reached in a live run; they do not hold the others back.
        tick_ms
            Live runs: end the step with a tick of this time.
        held
            Streams that are paused.
        """
        done = np.array([place in idle for place in self.inputs], np.bool_)
        released = self._merge.release(done, np.array([name in held for name, _ in self.inputs], np.bool_))
        taken = [waiting.take(int(count)) for waiting, count in zip(self._waiting, released.counts, strict=True)]
        reached = running_maximum(released.time_ms, self._reached_ms)
        self._reached_ms = int(reached[-1]) if len(reached) else self._reached_ms
        judged = [part for stream in self._streams if (part := self._arranged(stream, released.source, reached, taken)) is not None]
        accepted, times, ticks = self._sequencer.settle(judged, released)
        origin = np.full(len(times), TICK, np.int64)
        for part in judged:
            origin[part.places[part.accepted]] = part.stream.index
        keep = accepted | ticks
        source, journal = origin[keep], times[keep]
        if tick_ms is not None:
            source, journal = np.append(source, TICK), np.append(journal, self._clock.tick(tick_ms))
        return self._step(judged, times, source, journal)

    def _arranged(
        self, stream: StreamPlan, source: NDArray[np.int64], reached: NDArray[np.int64], taken: Sequence[Sequence[CleanRows]]
    ) -> ReleasedEvents | None:
        """Put a stream's rows in order and judge their event times; none of them is a copy yet."""
        own = [i for i, (name, _) in enumerate(self.inputs) if name == stream.name]
        parts = [part for i in own for part in taken[i]]
        if not parts:
            return None
        rows = concatenate(parts)
        places = np.flatnonzero(source == own[0] if len(own) == 1 else np.isin(source, own))
        if len(own) > 1:
            # `rows` come input by input, `places` are in the released order: row k goes to the k-th place of its input.
            order = np.empty(len(places), np.int64)
            order[np.argsort(source[places], kind="stable")] = np.arange(len(places))
            rows = rows.take(order)
        ahead = _instants(rows.columns.column("_event_time")) - reached[places]
        future = (ahead > stream.allowed_skew_ms) & ~rows.refused & ~rows.heartbeat
        if stream.rejects_future and future.any():
            rows = rows.refusing({row: RecordVerdict(FUTURE, _too_far_ahead(stream, int(ahead[row]))) for row in np.flatnonzero(future).tolist()})
        silent = rows.heartbeat | rows.skipped
        return ReleasedEvents(stream, places, rows, ~(rows.refused | silent), np.zeros(len(rows), np.bool_), future, silent)

    def _step(
        self, judged: Sequence[ReleasedEvents], times: NDArray[np.int64], source: NDArray[np.int64], journal: NDArray[np.int64]
    ) -> IngestionStep:
        entries, keys, duplicates, late = {}, {}, {}, {}
        flagged: dict[tuple[str, str], int] = {}
        for part in judged:
            name, own = part.stream.name, times[part.places]
            if part.copied.any():
                duplicates[name] = addresses(part.stream, part.rows, own, np.flatnonzero(part.copied))
            if part.accepted.any():
                accepted = self._accepted(part, own)
                entries[name], keys[name] = accepted.entries, accepted.keys
                if accepted.late is not None:
                    late[name] = accepted.late
                flagged |= flags_of_accepted(part, accepted.flags, self._cleaners[name].flagging)
            if part.silent.any():
                flagged |= flags_of_skipped(part)
        counts = {stream.name: 0 for stream in self._streams}
        counts |= {part.stream.name: len(part.rows) - int(np.count_nonzero(part.silent)) for part in judged}
        rejections = Rejections.of([(part.stream.name, part.places, part.rows, times[part.places]) for part in judged])
        written = {part.stream.name: written_rows(part, times[part.places]) for part in judged}
        events = [(part, times[part.places]) for part in judged]
        return IngestionStep(JournalRun(source, journal, entries, keys), rejections, duplicates, late, counts, flagged, written, events)

    def _accepted(self, part: ReleasedEvents, times: NDArray[np.int64]) -> AcceptedRows:
        """Return what a stream adds to the journal, and which of it is late; moves the newest event time."""
        stream, rows = part.stream, part.rows
        # Mostly all of them are good, or all but the heartbeat behind them: then nothing is copied.
        good = slice(None) if part.accepted.all() else np.flatnonzero(part.accepted)
        columns = rows.columns if isinstance(good, slice) else chosen_rows(rows.columns, good)
        event_times = int64_ms(columns.column("_event_time"))
        behind = self._behind(stream.name, event_times, times[good])
        is_late = np.zeros(len(behind), np.bool_) if stream.is_reference else behind > stream.allowed_lateness_ms
        late = None
        if is_late.any():
            late = addresses(stream, rows, times, np.arange(len(rows))[good][is_late])
            late = late.append_column("event_time", pa.array(event_times[is_late]).cast(TIME))
            late = late.append_column("lateness_ms", pa.array(behind[is_late]))
        return AcceptedRows(journal_entries(stream, columns, times[good], is_late, rows, good), columns.column("_key"), late, rows.flags[good])

    def _behind(self, stream: str, event_times: NDArray[np.int64], journal_times: NDArray[np.int64]) -> NDArray[np.int64]:
        """Distance to the newest event time of the stream seen before, milliseconds; what is dated ahead of its journal time counts as of now."""
        known = np.minimum(event_times, journal_times)
        before = self._newest_event.get(stream, int(known[0]))
        newest = running_maximum(known, before)
        self._newest_event[stream] = int(newest[-1])
        return np.concatenate([[before], newest[:-1]]) - event_times


def _instants(times: pa.Array) -> NDArray[np.int64]:
    """Milliseconds, 0 for null."""
    column = times.view(pa.int64())
    return int64_ms(column.fill_null(0) if column.null_count else column)


def _too_far_ahead(stream: StreamPlan, ahead_ms: int) -> str:
    return (
        f"expected {stream.event_time} at most {stream.allowed_skew_ms / 1000:g} s (allowed_skew) ahead of when the record became available,"
        f" found {ahead_ms / 1000:g} s; where event times lie ahead by their nature, set allowed_skew, or future: flag"
    )
