"""How much memory and time a demo takes."""

import time
from dataclasses import dataclass

import psutil

_EVERY_S = 5.0


@dataclass(slots=True)
class Memory:
    """Largest resident memory of this process and its children together, sampled."""

    peak: int = 0
    looked: float = 0.0

    def look(self) -> None:
        """Take a sample, once in some seconds at most."""
        if time.monotonic() - self.looked >= _EVERY_S:
            self.look_now()

    def look_now(self) -> None:
        """Take a sample."""
        self.looked, total = time.monotonic(), 0
        for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        self.peak = max(self.peak, total)


class Laps:
    """Where the time went: seconds of each part, one after the other; `started` is when the first began."""

    def __init__(self, started: float) -> None:
        self.started = self._last = started
        self.seconds: dict[str, float] = {}

    def end(self, part: str) -> None:
        """End a part: the next one begins."""
        now = time.monotonic()
        self.seconds[part], self._last = round(now - self._last, 1), now
