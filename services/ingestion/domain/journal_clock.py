"""Gives journal records their times: availability made monotone, and ticks."""

import numpy as np
from numpy.typing import NDArray

from tidemill.services.ingestion.domain.running_maximum import running_maximum

TICK = -1
_LONG_AGO = np.iinfo(np.int64).min


class JournalClock:
    """Journal time as a fold over the journal alone, so that reading it restores the clock exactly.

    A record's journal time is its availability, or that of the journal record before it when that is later. A heartbeat of an instant that no
    tick has reached yet becomes a tick; those of the other inputs for the same instant are silent. What does not enter the journal
    (dead letters, copies) is given a time but moves nothing.
    """

    def __init__(self) -> None:
        self.time_ms = 0
        self.tick_ms = -1

    @property
    def covered_ms(self) -> int:
        """Every instant up to this one is complete: a tick closes its instant, a record only those before its own."""
        return max(self.tick_ms, self.time_ms - 1)

    def remember(self, time_ms: int, tick_ms: int | None) -> None:
        """Take up the newest journal time and the newest tick among journal records, in any order."""
        self.time_ms = max(self.time_ms, time_ms)
        if tick_ms is not None:
            self.tick_ms = max(self.tick_ms, tick_ms)

    def advance(
        self, available_ms: NDArray[np.int64], accepted: NDArray[np.bool_], heartbeat: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Give times to released items in order, arrays of shape (n,).

        Returns
        -------
        times : int64 array, shape (n,)
        ticks : bool array, shape (n,)
            The heartbeats that become ticks.
        """
        ticks = np.zeros(len(available_ms), np.bool_)
        if not len(available_ms):
            return available_ms, ticks
        moving = np.where(accepted, available_ms, _LONG_AGO)
        newest = running_maximum(moving, self.time_ms)
        if heartbeat.any():
            before = newest
            for i in np.flatnonzero(heartbeat).tolist():
                if available_ms[i] > self.tick_ms:
                    ticks[i] = True
                    self.tick_ms = moving[i] = max(int(available_ms[i]), int(before[i]), self.tick_ms)
            newest = running_maximum(moving, self.time_ms)
        self.time_ms = int(newest[-1])
        return np.maximum(available_ms, newest), ticks

    def tick(self, now_ms: int) -> int:
        """Move on to a wall-clock instant (live runs); returns the tick's journal time."""
        self.time_ms = self.tick_ms = max(now_ms, self.time_ms)
        return self.time_ms
