"""A process that starts while a server is away waits for it, instead of dying until its supervisor gives up."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from tidemill.shared.log.errors import TransientError
from tidemill.shared.observability.health import ProcessHealth

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
_REPEATED_EVERY_S = 30.0
_TROUBLE = "starting"
Made = TypeVar("Made")
log = logging.getLogger(__name__)


def once_it_answers(
    make: Callable[[], Made], stop: threading.Event, health: ProcessHealth | None = None, clock: Callable[[], float] = time.monotonic
) -> Made | None:
    """Return what `make` makes, called again after 0.2 s to 5 s for as long as it raises a TransientError; None when `stop` was set meanwhile.

    The process is live and not ready while it waits: ``/live`` and ``/ready`` show what it waits for, the log says it at once and every 30 s.
    Anything else that `make` raises is raised.

    Parameters
    ----------
    make
        Connects to servers and builds what needs their answers; whatever it has begun before it fails is thrown away.
    clock
        Seconds.
    """
    pause, said_at = _FIRST_PAUSE_S, -_REPEATED_EVERY_S
    while not stop.is_set():
        try:
            made = make()
        except TransientError as error:
            if clock() - said_at >= _REPEATED_EVERY_S:
                log.warning("waiting for a server", extra={"error": str(error)})
                said_at = clock()
            if health is not None:
                health.report(_TROUBLE, str(error))
                health.advanced()
            stop.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        else:
            if health is not None:
                health.report(_TROUBLE, None)
            return made
    return None
