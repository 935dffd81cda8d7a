"""Whether what a live task believes of its inputs' ends is fresh enough to let time pass over them."""

PAUSE_MS = 250


class FreshLook:
    """Notices that the process stood still (SIGSTOP, a suspended machine), and asks for another look at the inputs before time goes on.

    The ends that a consumer has reached are those of its last fetch. A process that was stopped and goes on finds them as it left them, while
    records have come: a tick to the present, or records of one input passed on because another seems to be at its end, would move journal time over
    what waits, and requests that waited for seconds would look as if they had just come.

    A step that finds nothing to read after a pause of more than `PAUSE_MS` is no look yet. The next ones are, once as much time again has passed: the
    answers to the fetches that were under way have come by then. A slow step is no such pause: what came meanwhile is there to be read at once.
    """

    def __init__(self) -> None:
        self._before_ms: int | None = None
        self._look_until_ms: int | None = None

    def stale(self, now_ms: int, reads: bool) -> bool:
        """Take a step's time, in milliseconds, and whether it has anything to read; True while the inputs' ends are not to be believed."""
        before_ms, self._before_ms = self._before_ms, now_ms
        if self._look_until_ms is not None:
            if now_ms < self._look_until_ms:
                return True
            self._look_until_ms = None
        elif not reads and before_ms is not None and now_ms - before_ms > PAUSE_MS:
            self._look_until_ms = now_ms + PAUSE_MS
            return True
        return False
