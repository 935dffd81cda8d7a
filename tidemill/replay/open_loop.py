"""Publishes a data set live, at a pace that never waits for the system."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from tidemill.replay.feed import Feed
from tidemill.shared.log.broker import Sink

_CHUNK = 5_000
_LOOK_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class Pace:
    """When each record is due: `rate_per_s` records a second, or `speed` times as fast as they became available. One of the two."""

    rate_per_s: float | None = None
    speed: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.rate_per_s, self.speed) if value is not None]
        if len(given) != 1 or given[0] <= 0:
            raise ValueError(f"expected a positive rate or a positive speed, found rate {self.rate_per_s} and speed {self.speed}")

    def due_s(self, available_ms: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the seconds from the start at which each of the sorted records is due, shape (n,)."""
        if self.rate_per_s is not None:
            return np.arange(len(available_ms)) / self.rate_per_s
        return np.asarray((available_ms - available_ms[0]) / 1e3 / (self.speed or 1.0), np.float64)


@dataclass(frozen=True, slots=True)
class OpenLoopProgress:
    """What an open loop has done.

    Attributes
    ----------
    records, seconds
        How many, in how long.
    behind_s
        The most that a record was published after it was due: more than a little means that this machine cannot keep the pace.
    """

    records: int
    seconds: float
    behind_s: float


def publish_live(sink: Sink, feeds: Sequence[Feed], pace: Pace, on_progress: Callable[[int, int], None]) -> OpenLoopProgress:
    """Publish all feeds merged by availability; records are stamped with the time they are published.

    Parameters
    ----------
    on_progress
        Called four times a second with the availability of the last record published, and how many there are so far.
    """
    available = np.concatenate([feed.available_ms for feed in feeds])
    source = np.repeat(np.arange(len(feeds)), [len(feed.available_ms) for feed in feeds])
    order = np.argsort(available, kind="stable")
    available, source = available[order], source[order]
    due = pace.due_s(available) if len(available) else np.empty(0)
    records = _merged(feeds, source)
    if len(due):
        # The first portion is encoded (and kernels are loaded) before the clock runs.
        records = chain([next(records)], records)
    wait = threading.Event()
    start = looked = time.monotonic()
    published, behind = 0, 0.0
    while published < len(due):
        elapsed = time.monotonic() - start
        ready = int(np.searchsorted(due, elapsed, side="right"))
        if ready > published:
            behind = max(behind, elapsed - float(due[published]))
        for _ in range(published, ready):
            topic, key, value = next(records)
            sink.publish(topic, key, value)
        published = ready
        now = time.monotonic()
        if now - looked >= _LOOK_EVERY_S and published:
            looked = now
            on_progress(int(available[published - 1]), published)
        if published < len(due):
            wait.wait(min(_LOOK_EVERY_S, max(0.0, start + float(due[published]) - time.monotonic())))
    sink.flush(60)
    return OpenLoopProgress(published, time.monotonic() - start, behind)


def _merged(feeds: Sequence[Feed], source: NDArray[np.int64]) -> Iterator[tuple[str, bytes | None, bytes | None]]:
    """Yield topic, key and value of every record in the order that `source` (shape (n,), index of the feed) says."""
    at = [0] * len(feeds)
    for begin in range(0, len(source), _CHUNK):
        part = source[begin : begin + _CHUNK]
        taken = []
        for i, count in enumerate(np.bincount(part, minlength=len(feeds)).tolist()):
            keys, values = feeds[i].records(at[i], at[i] + count)
            taken.append(zip(keys, values, strict=True))
            at[i] += count
        for i in part.tolist():
            yield (feeds[i].topic, *next(taken[i]))
