"""The clock of alerts in a live run: the host's, without its steps."""

import logging
from collections.abc import Callable, Sequence

import numpy as np

from tidemill.shared.runner.clock_steps import STEP_MS, HostClock
from tidemill.shared.runner.host_clocks import steady_ms, wall_ms

log = logging.getLogger(__name__)


class AlertClock:
    """Says what time it is. The fold's clock never goes back: a host that is hours ahead for a minute would stop it for as many hours afterwards.

    Parameters
    ----------
    wall_ms, steady_ms
        The host's clocks, milliseconds.
    """

    def __init__(self, wall_ms: Callable[[], int] = wall_ms, steady_ms: Callable[[], int] = steady_ms) -> None:
        self._wall_ms, self._steady_ms = wall_ms, steady_ms
        self._believed = HostClock(STEP_MS)

    def now_ms(self, times_ms: Sequence[int] = ()) -> int:
        """Return the time to go by; what is noticed of the host's clock is logged.

        Parameters
        ----------
        times_ms
            Journal times of records that have just come: other hosts' word that time has gone on so far.
        """
        now_ms, step = self._believed.read(self._wall_ms(), self._steady_ms(), np.array(times_ms, np.int64))
        if step is not None:
            (log.warning if step.followed else log.error)("%s", step)
        return now_ms
