"""Threads of a campaign whose failure is the campaign's."""

import threading
from collections.abc import Callable, Sequence


class WatchedThreads:
    """Runs work in threads of its own, and keeps the first exception of any of them for whoever asks.

    Parameters
    ----------
    what
        The work's name in the message of a failure.
    """

    def __init__(self, what: str, works: Sequence[Callable[[], None]]) -> None:
        self._what = what
        self._failure: BaseException | None = None
        self._threads = [threading.Thread(target=self._run, args=(work,), daemon=True) for work in works]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def join(self, number: int | None = None) -> None:
        """Wait until all, or one of them, have ended."""
        for thread in self._threads if number is None else [self._threads[number]]:
            thread.join()

    def check(self) -> None:
        """Raise RuntimeError if one of them has failed."""
        if self._failure is not None:
            raise RuntimeError(f"the campaign's own {self._what} has failed") from self._failure

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as failure:  # whatever it is, `check` raises it in the thread that waits
            self._failure = failure
