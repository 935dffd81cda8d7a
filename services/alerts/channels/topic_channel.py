"""Notifications as records of the public topic ``<app>-alerts``."""

from collections.abc import Awaitable, Callable

from tidemill.services.alerts.domain.notification import Message
from tidemill.shared.avro.records import RecordCodec

Publish = Callable[[bytes, bytes, int], Awaitable[None]]


class TopicChannel:
    """Publishes each notification, keyed by the id of its alert, at the time it was made.

    Parameters
    ----------
    publish
        Takes key, value and timestamp (ms); returns when the broker has them.
    """

    def __init__(self, codec: RecordCodec, publish: Publish) -> None:
        self._codec = codec
        self._publish = publish

    async def send(self, message: Message) -> None:
        """Publish."""
        for one in message.notifications:
            await self._publish(one.alert_id.encode(), self._codec.encode(one.record()), one.at_ms)

    async def close(self) -> None:
        """The producer is the service's."""
