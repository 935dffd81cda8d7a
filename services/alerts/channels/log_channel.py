"""Notifications as lines of the service's log."""

import logging

from tidemill.services.alerts.domain.notification import Message

_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}
log = logging.getLogger(__name__)


class LogChannel:
    """Writes each notification as one structured line."""

    async def send(self, message: Message) -> None:
        """Write."""
        for one in message.notifications:
            log.log(_LEVELS[one.severity], "alert %s: %s", one.status, one.summary, extra={"alert": one.record()})

    async def close(self) -> None:
        """Nothing is open."""
