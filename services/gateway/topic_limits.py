"""How large an event may be: what the broker takes on its topic."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

log = logging.getLogger(__name__)
_FRESH_S, _RETRY_S = 60.0, 5.0
_UNTIL_KNOWN = 1_000_000
# Batch and record headers, and the key, stand beside the value.
_ENVELOPE = 512


class TopicLimits:
    """The greatest event of each topic, asked of the broker at start and once a minute.

    Until the broker has answered, 1,000,000 bytes (Kafka's default).

    Parameters
    ----------
    ask
        Returns ``max.message.bytes`` by topic, and may wait; ConnectionError.
    own
        A limit of the gateway's own, which the broker's can only make smaller.
    """

    def __init__(self, topics: Sequence[str], ask: Callable[[Sequence[str]], Mapping[str, int]], own: int | None = None) -> None:
        self._topics, self._ask, self._own = tuple(topics), ask, own
        self._found: dict[str, int] = {}

    def of(self, topic: str) -> int:
        """Return the greatest event in bytes, its key included."""
        most = max(1, self._found.get(topic, _UNTIL_KNOWN) - _ENVELOPE)
        return most if self._own is None else min(most, self._own)

    async def follow(self) -> None:
        """Ask again and again; ends when it is cancelled."""
        silent = False
        while True:
            try:
                self._found.update(await asyncio.to_thread(self._ask, self._topics))
                silent = False
            except ConnectionError as error:
                if not silent:
                    log.warning("the broker does not say how large an event may be", extra={"error": str(error)})
                silent = True
            await asyncio.sleep(_RETRY_S if silent else _FRESH_S)
