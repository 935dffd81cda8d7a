"""Merges inputs into one order that does not depend on how fast the consumers happened to be."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.log.records import Coverage, TopicPartition
from tidemill.shared.merge.queue import NOTHING_COVERED, Key, MergeQueue, Upstream
from tidemill.shared.runner.progress import Progress

Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MergeInput:
    """One topic of a merge.

    Attributes
    ----------
    topic
        Its name.
    rank
        Breaks ties between inputs at the same journal coordinates; unique within a merge.
    partitions
        Partitions read.
    stage
        Producing stage, whose progress records tell how far an empty queue holds the merge; None for a journal, whose own
        records (ticks included: add them too) say that.
    gathered
        True when that stage has one task for all partitions: its coverage is one of time only.
    """

    topic: str
    rank: int
    partitions: tuple[int, ...] = (0,)
    stage: str | None = None
    gathered: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbours in merge order that come from one call of `add`.

    Attributes
    ----------
    rows : int64 array
        Rows of the payload, in order.
    """

    topic: str
    partition: int
    payload: Any
    rows: Int64


@dataclass(frozen=True, slots=True)
class Released:
    """Rows let go by the merge, as parallel columns in merge order.

    Attributes
    ----------
    journal_time, journal_partition, journal_offset : int64 arrays, shape (n,)
        Their journal coordinates.
    offsets : int64 array, shape (n,)
        Offsets in the topic they were read from.
    source : int64 array, shape (n,)
        Index into `sources` = (topic, partition, payload), one for each call of `add`.
    rows : int64 array, shape (n,)
        Row in that payload.
    """

    journal_time: Int64
    journal_partition: Int64
    journal_offset: Int64
    offsets: Int64
    source: Int64
    rows: Int64
    sources: Sequence[tuple[str, int, Any]]

    def __len__(self) -> int:
        return len(self.rows)

    def runs(self) -> Iterator[Run]:
        """Neighbours of one source at a time, in order."""
        if not len(self.rows):
            return
        edges = np.flatnonzero(np.diff(self.source)) + 1
        for begin, end in zip([0, *edges.tolist()], [*edges.tolist(), len(self.rows)], strict=True):
            yield Run(*self.sources[int(self.source[begin])], self.rows[begin:end])


class Merge:
    """Order by (journal time, partition, journal offset, input rank), never ahead of the slowest input.

    Rows wait in one queue per topic partition. What may still come in a queue is bounded by its last row and, when the input
    has an upstream stage, by that stage's progress record, which counts once as many records of the input have been read as
    it says had been produced. Rows up to the smallest bound are released. Replay-safe; lives on journal time only.

    Within a topic partition journal coordinates must not fall; `add` refuses rows that do (a bug upstream: crash).

    Examples
    --------
    A journal with events at offsets 0 and 2, and the prediction made for the first one:

    >>> import numpy as np
    >>> merge = Merge([MergeInput("app-journal", 0), MergeInput("app-predictions", 1, stage="scoring")])
    >>> merge.add("app-journal", 0, offsets=np.array([0, 2]), journal_time=np.array([10, 20]), payload=["a", "b"])
    >>> len(merge.release())  # scoring may still say something about offset 0
    0
    >>> merge.add("app-predictions", 0, offsets=np.array([7]), journal_time=np.array([10]), journal_offset=np.array([0]), payload=["A"])
    >>> [[run.payload[row] for row in run.rows] for run in merge.release().runs()]
    [['a'], ['A']]
    >>> done = Progress(stage="scoring", partition=0, covered_offset=3, covered_time=20, outputs={"app-predictions": 1})
    >>> merge.watermark("app-scoring-progress", 0, 4, done)
    >>> [[run.payload[row] for row in run.rows] for run in merge.release().runs()]
    [['b']]
    >>> merge.positions()[TopicPartition("app-journal", 0)], merge.coverage()
    (3, Coverage(offset=3, time_ms=20))

    In a task: `process` adds what came, works on `release()`, and returns `positions()` and `coverage()` in its Step;
    `replay` adds what came and works on `drain()`; `checkpoint` stores `state()` as one entry and uses `positions()` taken at
    the same moment as marker; `restore` calls `restore(state)`; `resume` calls `resume(positions)`.
    """

    def __init__(self, inputs: Sequence[MergeInput]) -> None:
        if len({entry.rank for entry in inputs}) != len(inputs):
            raise ValueError(f"expected a rank of its own for every input, got {[(entry.topic, entry.rank) for entry in inputs]}")
        self._queues: dict[TopicPartition, MergeQueue] = {}
        self._upstreams: dict[tuple[str, int, str], Upstream] = {}
        self._progress_offsets: dict[TopicPartition, int] = {}
        self._told_offsets: dict[TopicPartition, int] = {}
        self._told: tuple[dict[TopicPartition, int], Key] | None = None
        self._sources: dict[int, tuple[str, int, Any]] = {}
        self._next_source = 0
        self._inputs = {entry.topic: entry for entry in inputs}
        for entry in inputs:
            shared = Upstream(entry.topic) if entry.gathered else None
            for partition in entry.partitions:
                upstream = None
                if entry.stage is not None:
                    upstream = shared or Upstream(entry.topic)
                    self._upstreams[(entry.stage, 0 if entry.gathered else partition, entry.topic)] = upstream
                self._queues[TopicPartition(entry.topic, partition)] = MergeQueue(entry.topic, partition, entry.rank, upstream)

    def add(
        self,
        topic: str,
        partition: int,
        *,
        offsets: Int64,
        journal_time: Int64,
        payload: Any,
        journal_offset: Int64 | None = None,
        journal_partition: Int64 | int | None = None,
    ) -> None:
        """Queue rows of one topic partition.

        Parameters
        ----------
        offsets, journal_time, journal_offset, journal_partition : int64 arrays, shape (n,)
            Offsets in this topic, and journal coordinates, by default the row's own (the topic is the journal).
        payload
            Whatever the rows are rows of (an Arrow batch, a list); handed back with them.

        Raises
        ------
        ValueError
            Coordinates fall, or the topic partition is not an input.
        """
        key = TopicPartition(topic, partition)
        if key not in self._queues:
            raise ValueError(f"expected one of the inputs {sorted(self._queues)}, got {topic}:{partition}")
        if not len(offsets):
            return
        at = np.asarray(offsets, np.int64)
        journal = np.asarray(partition if journal_partition is None else journal_partition, np.int64)
        source = self._next_source
        self._queues[key].add(
            at,
            np.asarray(journal_time, np.int64),
            np.broadcast_to(journal, at.shape),
            at if journal_offset is None else np.asarray(journal_offset, np.int64),
            source,
        )
        self._next_source += 1
        self._sources[source] = (topic, partition, payload)

    def skip(self, topic: str, partition: int, offsets: Int64) -> None:
        """Count records that were read but carry no row (quarantined or undecodable), so that progress is not waited for in vain.

        Rows before them may be added afterwards: they count with the first row behind them, at the latest with the next `release`.
        """
        self._queues[TopicPartition(topic, partition)].skip(np.asarray(offsets, np.int64))

    def watermark(self, topic: str, partition: int, offset: int, progress: Progress) -> None:
        """Take note of an upstream progress record read from `topic` (a progress topic) at `offset`."""
        self._progress_offsets[TopicPartition(topic, partition)] = offset
        bound = (progress.covered_time, progress.partition, progress.covered_offset)
        for (stage, task, _), upstream in self._upstreams.items():
            if stage == progress.stage and task == progress.partition:
                produced = progress.outputs.get(upstream.topic, 0)
                upstream.announce(produced, (bound[0], -1, 0) if self._inputs[upstream.topic].gathered else bound)

    def release(self) -> Released:
        """Rows that no input can still precede, in merge order; call it when all that was read has been added."""
        for queue in self._queues.values():
            queue.pass_skipped()
        return self._take(self._bound())

    def drain(self) -> Released:
        """All rows, in merge order, whatever may still come: for `replay`, which sees exactly what had been released before."""
        for queue in self._queues.values():
            queue.pass_replayed()
        return self._take(None)

    def positions(self) -> dict[TopicPartition, int]:
        """First offset not released per input; of a progress topic the last record read (a restart needs it again).

        A progress record that lets nothing go moves no position: it would cost its reader a transaction of its own, which says nothing.
        """
        known = {key: queue.position for key, queue in self._queues.items() if queue.position is not None}
        now = (known, self._bound())
        if now != self._told:
            self._told, self._told_offsets = now, dict(self._progress_offsets)
        return {**known, **self._told_offsets}

    def coverage(self) -> Coverage:
        """Journal coordinates that the merge has passed; with several journal partitions the time only.

        Every instant *before* `time_ms` is complete, and of the instant itself every record below `offset`.
        """
        time, _, offset, _ = self._bound()
        single = len({key.partition for key in self._queues}) == 1
        return Coverage(max(offset, 0) if single else 0, time)

    def resume(self, positions: Mapping[TopicPartition, int]) -> None:
        """Start from committed positions instead of the beginning."""
        for key, position in positions.items():
            if key in self._queues:
                self._queues[key].resume(position)
            else:
                self._progress_offsets[key] = position

    def state(self) -> bytes:
        """What stands below `positions()`, the marker that belongs to it: counts of records, last coordinates. Opaque, for the checkpoint."""
        return json.dumps([[key.topic, key.partition, *queue.counted(), queue.passed()] for key, queue in sorted(self._queues.items())]).encode()

    def restore(self, state: bytes) -> None:
        """Load what `state` gave; records below its positions are not counted again."""
        # States of before have no coordinates.
        for topic, partition, offset, count, *passed in json.loads(state):
            queue = self._queues.get(TopicPartition(topic, partition))
            if queue is not None:
                queue.set_counted(offset, count, tuple(passed[0]) if passed and passed[0] else None)

    def _bound(self) -> Key:
        return min((queue.bound() for queue in self._queues.values()), default=NOTHING_COVERED)

    def _take(self, bound: Key | None) -> Released:
        chunks = [chunk for queue in self._queues.values() for chunk in queue.take(bound)]
        if not chunks:
            empty = np.empty(0, np.int64)
            return Released(empty, empty, empty, empty, empty, empty, ())
        offsets, time, partition, journal_offset, source, rows, rank = (np.concatenate(column) for column in zip(*chunks, strict=True))
        order = np.lexsort((offsets, rank, journal_offset, partition, time))
        # All rows of a chunk are of one source.
        used = sorted({int(chunk[4][0]) for chunk in chunks})
        sources = [self._sources[number] for number in used]
        held = {number for queue in self._queues.values() for number in queue.sources()}
        for number in used:
            if number not in held:
                del self._sources[number]
        return Released(
            time[order], partition[order], journal_offset[order], offsets[order], np.searchsorted(used, source[order]), rows[order], sources
        )
