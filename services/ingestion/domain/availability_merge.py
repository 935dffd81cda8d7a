"""Puts the raw topic partitions of a task into one order: by availability, smallest head first."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tidemill.services.ingestion.domain.running_maximum import running_maximum

_NOTHING = np.iinfo(np.int64).min
_EVERYTHING = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class ReleasedRecords:
    """What the merge lets go, in order.

    Attributes
    ----------
    source : int64 array, shape (n,)
        Index of the input.
    time_ms : int64 array, shape (n,)
        Availability as given, not raised.
    heartbeat : bool array, shape (n,)
    counts : int64 array, shape (inputs,)
        Records and heartbeats released per input: always the oldest ones held.
    """

    source: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    heartbeat: NDArray[np.bool_]
    counts: NDArray[np.int64]


@dataclass(slots=True)
class _Queue:
    """Items of one input that are not released yet.

    Attributes
    ----------
    rank
        Place of each in the order: twice the newest time so far, one more for a heartbeat.
    time_ms, heartbeat
        As given.
    newest
        Rank of the last item ever taken.
    """

    rank: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    time_ms: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    heartbeat: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    newest: int = _NOTHING


class AvailabilityMerge:
    """Merges inputs by (availability, records before heartbeats, input order, offset).

    An input promises that nothing older than its newest timestamp follows. An item is released once every other input has promised to be past
    its place, so the released sequence is a growing prefix of one order that depends on the inputs only, never on when they were read.
    Timestamps that run backwards inside an input take the place of the newest before them and are counted.

    Nothing has to be kept across a restart: what an input had promised by items already released lies before everything that is still to come.

    In a live run an input whose end is reached holds nothing back: pass it in `idle`. Then the order depends on the moment, and only the
    journal knows it.
    """

    def __init__(self, inputs: int) -> None:
        self._queues = [_Queue() for _ in range(inputs)]
        self.inversions = 0

    def add(self, source: int, times_ms: NDArray[np.int64], heartbeat: NDArray[np.bool_]) -> None:
        """Take the next items of an input, in offset order."""
        if not len(times_ms):
            return
        queue = self._queues[source]
        # A heartbeat comes after the records of its instant in every input, so that the first one released closes the instant.
        rank = running_maximum(2 * times_ms + heartbeat, queue.newest)
        self.inversions += int(np.count_nonzero((rank >> 1) > times_ms))
        queue.rank = np.concatenate([queue.rank, rank])
        queue.time_ms = np.concatenate([queue.time_ms, times_ms])
        queue.heartbeat = np.concatenate([queue.heartbeat, heartbeat])
        queue.newest = int(rank[-1])

    def release(self, idle: NDArray[np.bool_], held: NDArray[np.bool_] | None = None) -> ReleasedRecords:
        """Return everything whose place in the order is certain.

        Parameters
        ----------
        idle : bool array, shape (inputs,)
            Inputs whose end is reached in a live run.
        held : bool array, shape (inputs,)
            Inputs that are paused: nothing of them is released, and they hold nothing back. What they have comes after what the others release
            meanwhile, whatever its time.
        """
        kept = np.zeros(len(self._queues), np.bool_) if held is None else held
        promised = [_EVERYTHING if done else queue.newest for queue, done in zip(self._queues, (idle | kept).tolist(), strict=True)]
        counts = np.zeros(len(self._queues), np.int64)
        for i, queue in enumerate(self._queues):
            certain = 0 if kept[i] else len(queue.rank)
            for other, bound in enumerate(promised):
                if other != i:
                    # (rank, i) must come before whatever the other input may still bring, at least (bound, other).
                    side: Literal["left", "right"] = "right" if i < other else "left"
                    certain = min(certain, int(np.searchsorted(queue.rank, bound, side=side)))
            counts[i] = certain
        source = np.repeat(np.arange(len(counts)), counts)
        leaving = list(zip(self._queues, counts.tolist(), strict=True))
        time_ms = np.concatenate([queue.time_ms[:k] for queue, k in leaving])
        heartbeat = np.concatenate([queue.heartbeat[:k] for queue, k in leaving])
        if np.count_nonzero(counts) > 1:
            order = np.lexsort((source, np.concatenate([queue.rank[:k] for queue, k in leaving])))
            source, time_ms, heartbeat = source[order], time_ms[order], heartbeat[order]
        for queue, k in leaving:
            queue.rank, queue.time_ms, queue.heartbeat = queue.rank[k:], queue.time_ms[k:], queue.heartbeat[k:]
        return ReleasedRecords(source, time_ms, heartbeat, counts)
