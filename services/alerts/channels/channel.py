"""The port of a channel: one attempt to send one message."""

from typing import Protocol

from tidemill.services.alerts.domain.notification import Message


class NotSentError(Exception):
    """The receiver did not take a message.

    Parameters
    ----------
    again
        Whether another attempt may succeed.
    wait_s
        What the receiver asks to wait before it.
    """

    def __init__(self, reason: str, *, again: bool, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.again = again
        self.wait_s = wait_s


class Channel(Protocol):
    """A way to people."""

    async def send(self, message: Message) -> None:
        """Send a message; it may have been sent before, with the same id.

        Raises
        ------
        NotSentError
            The receiver did not take it.
        """
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...
