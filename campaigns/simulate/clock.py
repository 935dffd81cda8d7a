"""Time of a simulated host: it moves when the scheduler says so."""


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
