"""Between the fold and the world: what was decided is remembered first, sent then, and forgotten when it has arrived."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from tidemill.services.alerts.channels.channel import Channel, NotSentError
from tidemill.services.alerts.domain.fold import AlertFold
from tidemill.services.alerts.domain.notification import Message
from tidemill.services.alerts.domain.rows import AlertInput
from tidemill.services.alerts.settings import AlertsSettings
from tidemill.shared.application.alerts import AlertSource
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.observability.metrics import Metrics

# A receiver that is away for long must not let the state grow without end: behind so many messages each is tried once.
_MOST_WAITING = 1_000
_LOOKS_EVERY_S = 0.02
log = logging.getLogger(__name__)


class AlertDesk:
    """Runs the fold and sends what lies in its outbox, each channel at its own pace and in its own order.

    State is remembered before anything of it is sent, and before the offsets of its records are committed. A process that dies after that sends
    the same messages again, with the same ids; one that dies before has sent nothing, and reads the records again.

    Parameters
    ----------
    remember
        Keeps a snapshot; returns when the broker has it.
    channels
        By name, log and topic included.
    """

    def __init__(
        self,
        fold: AlertFold,
        remember: Callable[[bytes], Awaitable[None]],
        channels: Mapping[str, Channel],
        settings: AlertsSettings,
        health: ProcessHealth,
        metrics: Metrics,
    ) -> None:
        self._fold = fold
        self._remember = remember
        self._channels = channels
        self._settings = settings
        self._health = health
        self._metrics = metrics
        self._lock = asyncio.Lock()
        self._posted = {name: asyncio.Event() for name in channels}
        self._remembered = fold.snapshot()
        # What may be sent: the outbox as it is remembered, which the fold is ahead of while the state is on its way to the broker.
        self._sendable = dict(fold.outbox)

    async def take(self, source: AlertSource, records: Sequence[AlertInput]) -> None:
        """Take records; when it returns, what follows from them is remembered."""
        async with self._lock:
            self._fold.take(source, records)
            await self._keep()

    async def order(self, records: Sequence[AlertInput], *, at_clock: bool) -> None:
        """Follow commands; when it returns, what follows from them is remembered."""
        async with self._lock:
            self._fold.order(records, at_clock=at_clock)
            await self._keep()

    async def drain(self, within_s: float) -> None:
        """Send what waits for others of its group and what is posted; what a receiver does not take in time is kept for the next start."""
        async with self._lock:
            self._fold.finish()
            await self._keep()
        try:
            async with asyncio.timeout(within_s):
                while self._fold.outbox:
                    await asyncio.sleep(_LOOKS_EVERY_S)
        except TimeoutError:
            log.warning("messages of alerts are not sent by the end, the next start sends them", extra={"messages": len(self._fold.outbox)})

    async def tick(self, now_ms: int) -> None:
        """Move the clock on. An instant at which nothing happens is not worth remembering."""
        async with self._lock:
            before = self._fold.outbox.keys() | set()
            self._fold.tick(now_ms)
            if self._fold.outbox.keys() != before:
                await self._keep()
            self._health.advanced()

    async def send_all(self, channel: str) -> None:
        """Send what is posted to a channel, for ever."""
        while True:
            message = next((one for one in self._sendable.values() if one.channel == channel), None)
            if message is None:
                self._posted[channel].clear()
                await self._posted[channel].wait()
                continue
            reason = await self._sent(message)
            async with self._lock:
                if reason is None:
                    self._fold.delivered(message.message_id)
                else:
                    self._fold.undelivered(message.message_id, reason)
                await self._keep()

    async def give_up_unknown(self) -> None:
        """Report messages to channels that there are no longer."""
        async with self._lock:
            for message in [one for one in self._fold.outbox.values() if one.channel not in self._channels]:
                self._fold.undelivered(message.message_id, f"there is no channel {message.channel} any more")
            await self._keep()

    async def close(self) -> None:
        """Close the channels."""
        for channel in self._channels.values():
            await channel.close()

    async def _sent(self, message: Message) -> str | None:
        """Try until it is sent (None) or given up (why)."""
        channel, wait_s = message.channel, self._settings.backoff_initial_s
        attempts = self._settings.attempts if self._waiting(channel) < _MOST_WAITING else 1
        for attempt in range(1, attempts + 1):
            try:
                await self._channels[channel].send(message)
            except NotSentError as error:
                self._metrics.count_alert_message(channel, "failed")
                told = {"channel": channel, "message_id": message.message_id, "attempt": attempt, "reason": str(error)}
                self._health.report(f"alerts by {channel}", f"not sent: {error}")
                if not error.again or attempt == attempts:
                    self._metrics.count_alert_message(channel, "given_up")
                    log.error("a message of alerts is given up", extra=told)
                    return f"{error}, after {attempt} attempts"
                log.warning("a message of alerts was not sent, it is tried again", extra=told)
                await asyncio.sleep(max(wait_s, error.wait_s))
                wait_s = min(2 * wait_s, self._settings.backoff_max_s)
            else:
                self._metrics.count_alert_message(channel, "sent")
                self._health.report(f"alerts by {channel}", None)
                return None
        raise AssertionError("the last attempt returns")

    def _waiting(self, channel: str) -> int:
        return sum(message.channel == channel for message in self._fold.outbox.values())

    async def _keep(self) -> None:
        state = self._fold.snapshot()
        if state != self._remembered:
            await self._remember(state)
            self._remembered, self._sendable = state, dict(self._fold.outbox)
        for event in self._posted.values():
            event.set()
        self._metrics.set_alerts_firing(len(self._fold.firing))
