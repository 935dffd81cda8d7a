"""Puts what a training has made into a store that may not answer for a minute."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from tidemill.shared.log.errors import TransientError

log = logging.getLogger(__name__)
Result = TypeVar("Result")
WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)


def put_patiently(what: str, put: Callable[[], Result], wait: Callable[[float], None] = time.sleep) -> Result:
    """Put something, and try again for about a minute while that fails transiently: a full disk does not cost the training.

    Parameters
    ----------
    what
        The name of it in the log.
    wait
        Lets seconds pass.

    Raises
    ------
    TransientError
        The last of seven tries failed, too.
    """
    for wait_s in WAITS_S:
        try:
            return put()
        except TransientError as problem:
            log.warning("the %s could not be stored, trying again: %s", what, problem)
            wait(wait_s)
    return put()
