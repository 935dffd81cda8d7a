"""Whether a run's gateway answers: what a user is told to send would be refused before."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable

_LOOKS_EVERY_S = 0.2
_LONGEST_LOOK_S = 2.0


def wait_for_gateway(address: str, goes_on: Callable[[], bool], deadline_s: float = 60.0) -> bool:
    """Return whether it answered within the deadline.

    Parameters
    ----------
    goes_on
        Called before each look; false ends the waiting. It may raise what has gone wrong meanwhile.
    """
    end = time.monotonic() + deadline_s
    while goes_on() and time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{address}/live", timeout=_LONGEST_LOOK_S):  # noqa: S310 - an address of this run
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(_LOOKS_EVERY_S)
    return False
