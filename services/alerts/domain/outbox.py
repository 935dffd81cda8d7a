"""Messages on their way: which channels a notification takes, what waits for others of its group, and what is given up."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tidemill.services.alerts.domain.notification import Message, Notification, digest
from tidemill.services.alerts.domain.policy import AlertPolicy
from tidemill.shared.application.alert_rules import CompiledRule
from tidemill.shared.application.alerts import ALWAYS_THERE, AlertSeverity

UNDELIVERED = "undelivered"
_RANK: Mapping[AlertSeverity, int] = {"info": 0, "warning": 1, "critical": 2}


class Outbox:
    """What is still to be sent. Pure: it sends nothing, and its clock is what it is given.

    Attributes
    ----------
    messages
        By message id, in the order in which they were posted.
    """

    def __init__(self, policy: AlertPolicy) -> None:
        self._policy = policy
        self.messages: dict[str, Message] = {}
        self._groups: dict[tuple[str, ...], tuple[int, list[Notification]]] = {}

    def post(self, notification: Notification, channels: Iterable[str]) -> None:
        """Send a notification by channels, at once."""
        for channel in channels:
            self._post(Message(channel, (notification,)))

    def tell(self, rule: CompiledRule, notification: Notification, clock_ms: int) -> None:
        """Send a rule's notification by the channels that rule and severity ask for; a muted one by log and topic only."""
        self.post(notification, ALWAYS_THERE)
        if notification.muted:
            return
        for channel, least in self._policy.channels.items():
            if (not rule.channels or channel in rule.channels) and _RANK[rule.severity] >= _RANK[least]:
                if self._policy.group_wait_ms == 0:
                    self._post(Message(channel, (notification,)))
                else:
                    self._groups.setdefault((channel, rule.name, rule.owner), (clock_ms, []))[1].append(notification)

    def pass_to(self, clock_ms: int) -> None:
        """Send the groups that have waited long enough."""
        for group, (opened_ms, notifications) in sorted(self._groups.items()):
            if clock_ms - opened_ms >= self._policy.group_wait_ms:
                del self._groups[group]
                self._post(Message(group[0], tuple(notifications)))

    def finish(self) -> None:
        """Send what waits for others of its group: nobody will move the clock on any more (the end of a replay)."""
        for group, (_, notifications) in sorted(self._groups.items()):
            self._post(Message(group[0], tuple(notifications)))
        self._groups.clear()

    def delivered(self, message_id: str) -> None:
        """A message has reached its receiver."""
        self.messages.pop(message_id, None)

    def undelivered(self, message_id: str, reason: str, clock_ms: int) -> None:
        """A message is given up; the other channels are told, unless it says that itself."""
        message = self.messages.pop(message_id, None)
        if message is None:
            return
        is_news = any(notification.rule != UNDELIVERED for notification in message.notifications)
        what = ", ".join(f"{notification.rule} ({notification.status})" for notification in message.notifications)
        summary = f"{len(message.notifications)} notifications were not delivered by {message.channel}: {what}"
        notification = Notification(
            digest(UNDELIVERED, message_id), UNDELIVERED, "undelivered", 1, "critical", self._policy.owner, summary, reason, clock_ms, clock_ms,
            labels={"channel": message.channel, "message_id": message_id},
        )  # fmt: skip
        others = (*ALWAYS_THERE, *(self._policy.channels if is_news else ()))
        self.post(notification, [channel for channel in others if channel != message.channel])

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists, texts and numbers."""
        groups = [[list(key), opened_ms, [one.snapshot() for one in waiting]] for key, (opened_ms, waiting) in sorted(self._groups.items())]
        return {"groups": groups, "outbox": [message.snapshot() for message in self.messages.values()]}

    def load(self, groups: Sequence[Any], messages: Sequence[Any]) -> None:
        """Take up the groups and the messages of a snapshot."""
        self._groups = {tuple(key): (opened_ms, [Notification(**one) for one in waiting]) for key, opened_ms, waiting in groups}
        self.messages = {message.message_id: message for message in map(Message.load, messages)}

    def _post(self, message: Message) -> None:
        self.messages[message.message_id] = message
