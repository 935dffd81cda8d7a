"""How long tests wait, for a machine of any speed.

A wait for a condition ends when the condition holds, so its deadline costs nothing: it is there for what never comes. Deadlines are written for a
machine that does nothing else, and multiplied here, pytest's own (`timeout`, see `conftest.py`) with them.
"""

import os
import time
from collections.abc import Callable

FACTOR = float(os.environ.get("TIDEMILL_TEST_PATIENCE", "4"))
_LOOKS_EVERY_S = 0.05


def patient(seconds: float) -> float:
    """Return a deadline for a machine that may be several times slower, given that of an idle one."""
    return FACTOR * seconds


def until(condition: Callable[[], bool], what: str | Callable[[], str], within_s: float = 120.0, check: Callable[[], object] | None = None) -> None:
    """Wait for a condition.

    Parameters
    ----------
    what
        What is waited for; of a function, what is to be said when it does not come.
    within_s
        Deadline on an idle machine.
    check
        Called before each look; raises when there is nothing to wait for any more.
    """
    deadline = time.monotonic() + patient(within_s)
    while not condition():
        if check is not None:
            check()
        if time.monotonic() > deadline:
            raise AssertionError(f"not seen within {patient(within_s):.0f} s: {what if isinstance(what, str) else what()}")
        time.sleep(_LOOKS_EVERY_S)
