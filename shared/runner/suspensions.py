"""For how long a task that no record explains is set aside, or called with input only."""

import time
from collections.abc import Callable
from dataclasses import replace

from tidemill.shared.runner.crash_log import Crash

_FIRST_S, _LONGEST_S = 1.0, 600.0
# 2 ** 20 seconds are far beyond the longest wait.
_MOST_DOUBLINGS = 20


class Suspensions:
    """Waits that double from one suspension of a task to the next, up to ten minutes.

    Parameters
    ----------
    clock_s
        Steady seconds.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._until_s: dict[int, float] = {}

    @staticmethod
    def wait_s(crash: Crash) -> float:
        """Return how long the next suspension of a task lasts."""
        return min(_LONGEST_S, _FIRST_S * 2.0**crash.suspended)

    def begin(self, crash: Crash) -> Crash:
        """Suspend a task from now on; what is known of its crash then: any search has ended."""
        self._until_s[crash.partition] = self._clock_s() + self.wait_s(crash)
        return replace(crash, limit=0, low=-1, high=-1, trial=-1, tries=0, suspended=min(crash.suspended + 1, _MOST_DOUBLINGS))

    def end(self, partition: int) -> None:
        """Let a task be tried again."""
        self._until_s.pop(partition, None)

    def until_s(self, partition: int) -> float | None:
        """When a task is to be tried again; None when it is not suspended."""
        return self._until_s.get(partition)

    def mute_lasts(self, crash: Crash) -> bool:
        """Whether a task that crashes without input is not called without it yet; after a restart the wait is half as long as the next one."""
        return self._clock_s() < self._until_s.setdefault(crash.partition, self._clock_s() + self.wait_s(crash) / 2)
