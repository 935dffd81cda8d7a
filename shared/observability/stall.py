"""Ends a process whose loop hangs: a call that never comes back is helped by a restart only."""

import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tidemill.shared.observability.health import ProcessHealth

log = logging.getLogger(__name__)
_TICK_S = 1.0
_CRASHED = 1


def leave() -> None:
    """Say where every thread is, and end the process at once."""
    faulthandler.dump_traceback(sys.stderr, all_threads=True)
    logging.shutdown()
    os._exit(_CRASHED)


class StallGuard:
    """Watches the loop's progress from a thread of its own; a context manager around the loop.

    Time is counted in ticks of this thread, so a process that was stopped and continued (SIGSTOP, a suspended machine) is not ended for it.

    Parameters
    ----------
    health
        Whose `advances` must go on.
    limit_s, cold_limit_s
        Longest time without, restores included; the second one, by default the same, holds until the process is warm (`Health.set_warm`).
    stalled
        What then happens, once.
    """

    def __init__(
        self, health: ProcessHealth, limit_s: float, stalled: Callable[[], None] = leave, tick_s: float = _TICK_S, cold_limit_s: float | None = None
    ) -> None:
        self._health, self._limit_s, self._stalled, self._tick_s = health, limit_s, stalled, tick_s
        self._cold_limit_s = limit_s if cold_limit_s is None else cold_limit_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stall-guard", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        seen, still_s = self._health.advances, 0.0
        while not self._done.wait(self._tick_s):
            now = self._health.advances
            seen, still_s = now, (still_s + self._tick_s if now == seen else 0.0)
            if still_s >= (self._limit_s if self._health.warm else self._cold_limit_s):
                log.error("stalled: the process ends, to be started again", extra={"without_progress_s": round(still_s)})
                self._stalled()
                return
