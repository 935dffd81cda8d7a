"""How much one client may ask."""

import time
from collections import OrderedDict
from collections.abc import Callable

_CLIENTS = 10_000


class RateLimit:
    """A token bucket for each client: `rate` requests a second in the long run, `burst` at once.

    The 10,000 clients seen last are remembered; one that is forgotten starts with a full bucket.

    Parameters
    ----------
    clock
        Monotonic seconds.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, float(burst), clock
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, client: str) -> float:
        """Take one request from a client's bucket; 0 if there was one, else how long until there is."""
        now = self._clock()
        left, seen = self._clients.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - seen) * self._rate)
        granted = left >= 1.0
        self._clients[client] = (left - 1.0 if granted else left), now
        if len(self._clients) > _CLIENTS:
            self._clients.popitem(last=False)
        return 0.0 if granted else (1.0 - left) / self._rate
