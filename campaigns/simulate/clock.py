"""Time of a simulated host: it moves when the scheduler says so."""

import random


class SimulatedClock:
    """Wall clock and monotonic clock; only the wall clock jumps."""

    def __init__(self, start_ms: int = 1_700_000_000_000) -> None:
        self._wall_ms = start_ms
        self._passed_ms = 0

    def advance(self, ms: int) -> None:
        """Let time pass."""
        self._wall_ms += ms
        self._passed_ms += ms

    def jump(self, ms: int) -> None:
        """Set the wall clock forward or back."""
        self._wall_ms += ms

    def wall_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return self._wall_ms

    def monotonic_s(self) -> float:
        """Return seconds that have passed."""
        return self._passed_ms / 1_000


class ScoringClock:
    """What scoring reads before and after it lets a model score, in nanoseconds: champion, then challenger, so that the calls come in fours.

    Each takes some 40 µs, now and then a thousand times as long, whoever it is.

    Attributes
    ----------
    slower_ns
        What a challenger takes more.
    was_slow
        Whether one ever did.
    """

    def __init__(self) -> None:
        self._random = random.Random("scoring times")
        self._now_ns = self._calls = 0
        self.slower_ns, self.was_slow = 0, False

    def slow_down(self, slower_ns: int) -> None:
        """Let challengers take so much more."""
        self.slower_ns = slower_ns
        self.was_slow |= bool(slower_ns)

    def __call__(self) -> int:
        """Return the time; a model has scored since every second call."""
        self._calls += 1
        if self._calls % 2 == 0:
            self._now_ns += int(40_000 * self._random.paretovariate(1.5))
            if self._calls % 4 == 0:
                self._now_ns += self.slower_ns
        return self._now_ns
