"""Keeps a step of the host's clock out of the journal, and out of what is decided by the time of day."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DAY_MS = 86_400_000
# A larger difference between wall clock and steady clock is a step.
STEP_MS = 10_000
_FOLLOWED_BACK_MS = 3_600_000
_SAID_AGAIN_MS = 60_000
# Where no steady clock tells what has passed (processing time that is made up), only this much at once is a step.
_FAR_MS = 400 * DAY_MS


@dataclass(frozen=True, slots=True)
class ClockStep:
    """What was noticed of the host's clock, to be reported.

    Attributes
    ----------
    step_ms
        How far the clock stands from where it should; negative: behind.
    followed
        Whether the stage goes by the new time.
    """

    step_ms: int
    followed: bool

    def __str__(self) -> str:
        way = f"{abs(self.step_ms) / 1000:g} s {'ahead of' if self.step_ms > 0 else 'behind'} where a steady clock has it"
        if self.followed:
            return f"the host's clock stands {way}; it is followed (time does not run backwards)"
        return f"the host's clock stands {way}; it is not followed: correct the clock, or restart the stage once it is right"


class HostClock:
    """The host's wall clock as far as a stage believes it (live runs): ingestion for the journal, others for waits and alerts.

    Between two readings the wall clock and the steady clock should have gone on alike. A difference beyond `bound_ms` is a step. Forward, it is
    followed only when it is no more than a day and the records just read were stamped by clocks that have gone with it (more than half the step
    ahead of where this host had the time). Backward, up to an hour is followed: journal time stands still until the clock has caught up. Every
    other step is not followed: time goes on by the steady clock. Each is reported when it is found, and every minute while it lasts.

    Not promised: a process that starts while the clock is wrong takes it as it is.

    Parameters
    ----------
    bound_ms
        Largest difference that is no step: what time services slew, or a pause between the two readings.
    """

    def __init__(self, bound_ms: int) -> None:
        self._bound_ms = bound_ms
        self._wall_ms: int | None = None
        self._steady_ms = 0
        self._said_at_ms: int | None = None

    def read(self, wall_ms: int, steady_ms: int | None, stamps_ms: NDArray[np.int64]) -> tuple[int, ClockStep | None]:
        """Return the time to go by, and what is to be reported.

        Parameters
        ----------
        steady_ms
            None: no steady clock; then only a step of more than 400 days forward is kept out.
        stamps_ms : int64 array, shape (n,)
            Timestamps of the records read with this step.
        """
        if self._wall_ms is None:
            return self._follow(wall_ms, steady_ms or 0), None
        if steady_ms is None:
            step = wall_ms - self._wall_ms
            if step <= _FAR_MS:
                return self._follow(max(wall_ms, self._wall_ms), 0), None
            return self._wall_ms, ClockStep(step, followed=False)
        expected = self._wall_ms + steady_ms - self._steady_ms
        step = wall_ms - expected
        if abs(step) <= self._bound_ms:
            self._said_at_ms = None
            return self._follow(wall_ms, steady_ms), None
        if -_FOLLOWED_BACK_MS <= step < 0 or (0 < step <= DAY_MS and self._confirmed(expected, step, stamps_ms)):
            self._said_at_ms = None
            return self._follow(wall_ms, steady_ms), ClockStep(step, followed=True)
        self._follow(expected, steady_ms)
        if self._said_at_ms is not None and steady_ms - self._said_at_ms < _SAID_AGAIN_MS:
            return expected, None
        self._said_at_ms = steady_ms
        return expected, ClockStep(step, followed=False)

    @staticmethod
    def _confirmed(expected: int, step: int, stamps_ms: NDArray[np.int64]) -> bool:
        return len(stamps_ms) > 0 and float(np.median(stamps_ms)) > expected + step / 2

    def _follow(self, wall_ms: int, steady_ms: int) -> int:
        self._wall_ms, self._steady_ms = wall_ms, steady_ms
        return wall_ms
