"""The host's clocks: the one that people set, and one that nobody does."""

import time
from collections.abc import Callable


def wall_ms() -> int:
    """Return processing time, milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def steady_ms() -> int:
    """Return time since the machine started, sleep included (where the system has such a clock)."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) // 1_000_000


def steady_of(timer: Callable[[], float]) -> Callable[[], int]:
    """Return a steady clock in milliseconds, of one in seconds."""
    return lambda: int(timer() * 1_000)
