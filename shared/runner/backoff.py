"""How long a stage waits after a transient error, and when it gives up."""

import logging
import threading

from tidemill.shared.log.errors import ServerAwayError, TransientError
from tidemill.shared.observability.health import WAITING, ProcessHealth
from tidemill.shared.observability.settings import RunnerSettings

log = logging.getLogger(__name__)
_DOUBLINGS = 30


class Backoff:
    """Counts transient errors in a row and waits after each, twice as long as after the one before.

    Parameters
    ----------
    name
        Of the stage, for the error that ends it.
    settings
        First and longest wait, and how many errors in a row end the process.
    """

    def __init__(self, name: str, settings: RunnerSettings, health: ProcessHealth) -> None:
        self._name = name
        self._settings = settings
        self._health = health
        self._failures = 0
        self._in_a_row = 0

    @property
    def waits(self) -> bool:
        """Whether a server is waited for: the stage is not ready."""
        return WAITING in self._health.troubles

    def stepped(self, *, past: bool) -> None:
        """Take note of a step without an error.

        Parameters
        ----------
        past
            Whether the stage has got past what a server was away for (`Outage`): the wait is over, and the next one is the first again.
        """
        self._in_a_row = 0
        if past:
            self._failures = 0
            self._health.report(WAITING, None)

    def wait(self, problem: TransientError, stop: threading.Event) -> None:
        """Wait after an error, or until `stop` is set.

        Raises
        ------
        RuntimeError
            Too many errors came in a row, and the server that is at fault is none that could be waited for.
        """
        self._failures += 1
        if isinstance(problem, ServerAwayError):
            # No process is helped by being another one: it waits, live and not ready, for as long as it takes.
            self._health.report(WAITING, str(problem))
            self._health.advanced()
        else:
            self._in_a_row += 1
        if self._in_a_row > self._settings.retries:
            raise RuntimeError(f"stage {self._name}: still failing after {self._settings.retries} retries: {problem}") from problem
        wait_ms = min(self._settings.backoff_max_ms, self._settings.backoff_initial_ms * 2 ** min(self._failures - 1, _DOUBLINGS))
        log.warning("transient error, trying again", extra={"wait_ms": wait_ms, "failures": self._failures, "error": str(problem)})
        stop.wait(wait_ms / 1000)
