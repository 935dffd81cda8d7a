"""Puts the raw topics of a task into one order: by availability, smallest head first."""

from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

_END_OF_TIME = np.iinfo(np.int64).max
TICK = -1


@dataclass(frozen=True, slots=True)
class Released:
    """What the merge lets go, in order.

    Attributes
    ----------
    source : int64 array, shape (n,)
        Index of the stream; -1 for a tick.
    time_ms : int64 array, shape (n,)
        Availability.
    counts
        Per stream, how many of its records are in it (always the oldest ones it holds).
    """

    source: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    counts: NDArray[np.int64]


class AvailabilityMerge:
    """Merges streams by (availability, stream order, offset).

    A stream promises that nothing older than its newest timestamp follows (records and heartbeats alike). What a stream holds is released as
    soon as every other stream has promised to be past it; so the order depends on the records only, not on when they were read. Timestamps
    that run backwards inside a stream are raised to the newest before them and counted.

    In a live run a stream whose end is reached does not hold the others back: pass it in `idle`.
    """

    def __init__(self, streams: int) -> None:
        self._times: list[deque[NDArray[np.int64]]] = [deque() for _ in range(streams)]
        self._ticks: deque[int] = deque()
        self._frontier = np.full(streams, -1, np.int64)
        self.inversions = 0

    def add(self, stream: int, times_ms: NDArray[np.int64], heartbeat: NDArray[np.bool_]) -> None:
        """Take the next records of a stream; heartbeats count for the promise, those of stream 0 become ticks."""
        if not len(times_ms):
            return
        raised = np.maximum.accumulate(np.maximum(times_ms, self._frontier[stream]))
        self.inversions += int((raised > times_ms).sum())
        self._frontier[stream] = raised[-1]
        if not heartbeat.all():
            self._times[stream].append(raised[~heartbeat])
        if stream == 0:
            self._ticks.extend(raised[heartbeat].tolist())

    def waiting(self, stream: int) -> int:
        """Records of a stream that are not released yet."""
        return sum(len(part) for part in self._times[stream])

    def release(self, idle: NDArray[np.bool_]) -> Released:
        """Return everything whose place in the order is certain.

        Parameters
        ----------
        idle : bool array, shape (streams,)
            Streams that hold nothing and whose end is reached in a live run.
        """
        streams = len(self._times)
        held = [np.concatenate(parts) if parts else np.empty(0, np.int64) for parts in self._times]
        frontier = np.where(idle, _END_OF_TIME, self._frontier)
        counts = np.zeros(streams, np.int64)
        for s in range(streams):
            counts[s] = len(held[s])
            for other in range(streams):
                if other != s:
                    # The record (t, s) must come before anything the other stream may still bring: (frontier, other).
                    side: Literal["left", "right"] = "right" if s < other else "left"
                    counts[s] = min(counts[s], np.searchsorted(held[s], frontier[other], side=side))
        bound = int(frontier.min())
        ticks = 0
        while ticks < len(self._ticks) and self._ticks[ticks] <= bound:
            ticks += 1
        released_ticks = np.array([self._ticks.popleft() for _ in range(ticks)], np.int64)
        time_ms = np.concatenate([released_ticks, *(held[s][: counts[s]] for s in range(streams))])
        source = np.concatenate([np.full(ticks, TICK, np.int64), *(np.full(counts[s], s, np.int64) for s in range(streams))])
        order = np.lexsort((source, time_ms))
        for s in range(streams):
            rest = held[s][counts[s] :]
            self._times[s] = deque([rest]) if len(rest) else deque()
        return Released(source[order], time_ms[order], counts)
