"""The queue of one topic partition in a merge, and what its upstream stage says about the rows still to come."""

from collections import deque

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Key = tuple[int, int, int, int]
QueueColumns = tuple[Int64, Int64, Int64, Int64, Int64, Int64, Int64]
NOTHING_COVERED: Key = (-1, -1, -1, -1)


class Upstream:
    """Progress of the task that produces one input: a bound counts once all it had produced by then has been read."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.read = 0
        self._bound: tuple[int, int, int] | None = None
        self._announced: deque[tuple[int, tuple[int, int, int]]] = deque()

    def announce(self, produced: int, bound: tuple[int, int, int]) -> None:
        """Remember that everything below `bound` is within the first `produced` records."""
        self._announced.append((produced, bound))

    def bound(self) -> tuple[int, int, int] | None:
        """Greatest bound whose records have all been read."""
        while self._announced and self._announced[0][0] <= self.read:
            self._bound = self._announced.popleft()[1]
        return self._bound


class MergeQueue:
    """Rows of one topic partition that wait, in order, as column chunks."""

    def __init__(self, topic: str, partition: int, rank: int, upstream: Upstream | None) -> None:
        self.position: int | None = None
        self._name = f"{topic}:{partition}"
        self._rank = rank
        self._upstream = upstream
        self._chunks: deque[QueueColumns] = deque()
        self._last: tuple[int, int, int] | None = None
        # Of the last row that was let go, by a process before this one too.
        self._passed: tuple[int, int, int] | None = None
        self._counted_before = 0
        self._count = 0
        # Skipped records that may have rows before them which have not been added yet, and those that wait behind rows held back.
        self._ahead: list[int] = []
        self._skipped: list[int] = []
        self._end: int | None = None
        self._resumed = 0

    def add(self, offsets: Int64, time: Int64, partition: Int64, journal_offset: Int64, source: int) -> None:
        """Append rows; refuse coordinates that fall."""
        first = (int(time[0]), int(partition[0]), int(journal_offset[0]))
        before = self._passed if self._last is None else self._last
        if not _never_fall(time, partition, journal_offset) or (before is not None and first < before):
            raise ValueError(
                f"expected journal coordinates that never fall in {self._name}, got {first} after {before} or a fall between"
                f" offsets {offsets[0]} and {offsets[-1]}: the producing stage wrote out of order"
            )
        self._last = (int(time[-1]), int(partition[-1]), int(journal_offset[-1]))
        self._pass_skipped(int(offsets[-1]))
        self._read(offsets)
        if not self._chunks:
            self.position = int(offsets[0])
        count = len(offsets)
        self._chunks.append((offsets, time, partition, journal_offset, np.full(count, source), np.arange(count), np.full(count, self._rank)))

    def skip(self, offsets: Int64) -> None:
        """Learn of records that carry no row. They count once rows behind them come, or when told that all before them have come."""
        self._ahead += offsets.tolist()

    def resume(self, position: int) -> None:
        """Start from a committed position: all records below it come while the task replays."""
        self.position = self._resumed = position

    def pass_skipped(self) -> None:
        """Count every skipped record: all rows before them have been added."""
        if self._ahead:
            self._pass_skipped(self._ahead[-1] + 1)

    def pass_replayed(self) -> None:
        """Count the skipped records below the committed position; those from there on may have rows before them that come in the first step."""
        self._pass_skipped(self._resumed)

    def _pass_skipped(self, end: int) -> None:
        passed = [offset for offset in self._ahead if offset < end]
        if passed:
            self._ahead = self._ahead[len(passed) :]
            self._skipped += passed
            self._read(np.array(passed, np.int64))

    def _read(self, offsets: Int64) -> None:
        """Count records read; those below the restored position were counted before."""
        fresh = int(np.count_nonzero(offsets >= self._counted_before))
        self._count += fresh
        self._end = max(self._end or 0, int(offsets[-1]) + 1)
        if self._upstream is not None:
            self._upstream.read += fresh
        if not self._chunks:
            self.position = self._end

    def counted(self) -> tuple[int, int]:
        """Offset of the first record that is not released, and how many records have been read below it.

        What is held back is not among them: a restart reads it again, and no progress that counts it may be believed before.
        """
        position = max(self._counted_before, self._end or 0) if self.position is None else self.position
        self._skipped = [offset for offset in self._skipped if offset >= position]
        return position, self._count - sum(len(chunk[0]) for chunk in self._chunks) - len(self._skipped)

    def passed(self) -> tuple[int, int, int] | None:
        """Coordinates of the last row that was let go: none behind it may have smaller ones."""
        return self._passed

    def set_counted(self, offset: int, count: int, passed: tuple[int, int, int] | None) -> None:
        """Continue a count, behind what was let go before."""
        self._passed = passed
        if self._upstream is not None:
            self._upstream.read += count - self._count
        self._counted_before, self._count = offset, count

    def bound(self) -> Key:
        """Least coordinates that a row still to come can have."""
        known = NOTHING_COVERED
        if self._last is not None:
            time, partition, offset = self._last
            # A journal has one record per coordinate; of other topics more rows of the same one may follow.
            known = (time, partition, offset + 1, -1) if self._upstream is None else (time, partition, offset, self._rank)
        covered = self._upstream.bound() if self._upstream is not None else None
        return known if covered is None else max(known, (*covered, -1))

    def take(self, bound: Key | None) -> list[QueueColumns]:
        """Remove and return the rows up to the bound (all of them without one)."""
        taken: list[QueueColumns] = []
        while self._chunks:
            chunk = self._chunks[0]
            count = len(chunk[0]) if bound is None else _rows_within(chunk, self._rank, bound)
            if count == 0:
                break
            taken.append(tuple(column[:count] for column in chunk))  # type: ignore[arg-type]  # a named tuple's columns, each cut
            if count < len(chunk[0]):
                self._chunks[0] = tuple(column[count:] for column in chunk)  # type: ignore[assignment]  # likewise
                break
            self._chunks.popleft()
        if taken:
            _, time, partition, journal_offset, *_ = taken[-1]
            self._passed = int(time[-1]), int(partition[-1]), int(journal_offset[-1])
            self.position = int(self._chunks[0][0][0]) if self._chunks else self._end
        return taken

    def sources(self) -> set[int]:
        """Payloads that rows still wait in."""
        return {int(chunk[4][0]) for chunk in self._chunks}


def _never_fall(time: Int64, partition: Int64, offset: Int64) -> bool:
    """Whether coordinates are in order, row by row."""
    if len(time) == 1:
        return True
    rise, same = time[1:] > time[:-1], time[1:] == time[:-1]
    for column in (partition, offset):
        rise |= same & (column[1:] > column[:-1])
        same &= column[1:] == column[:-1]
    return bool((rise | same).all())


def _rows_within(chunk: QueueColumns, rank: int, bound: Key) -> int:
    _, time, partition, offset = chunk[:4]
    same_time = time == bound[0]
    same_partition = same_time & (partition == bound[1])
    same_offset = same_partition & (offset == bound[2])
    within = (time < bound[0]) | (same_time & (partition < bound[1])) | (same_partition & (offset < bound[2]))
    return int(np.count_nonzero(within | (same_offset if rank <= bound[3] else False)))
