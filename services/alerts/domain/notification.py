"""What is said of an alert, and in which messages it goes out."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tidemill.shared.application.alerts import AlertSeverity

Status = Literal["firing", "repeated", "resolved", "information", "undelivered"]


def digest(*parts: object) -> str:
    """Return the id of what the parts say: the same parts, the same id."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Notification:
    """One thing said of one alert (`tidemill.Alert`).

    Attributes
    ----------
    alert_id
        The same from the first notification of an alert to the one that it is over.
    number
        Which notification of the alert this is, from 1.
    at_ms, since_ms
        When it was said, and since when the condition holds, on the clock of alerts.
    records
        For how many records the condition was true.
    origin
        The record that began it, ``topic:partition:offset``; empty where none did.
    muted
        Whether it goes to log and topic only.
    """

    alert_id: str
    rule: str
    status: Status
    number: int
    severity: AlertSeverity
    owner: str
    summary: str
    detail: str
    at_ms: int
    since_ms: int
    records: int = 1
    origin: str = ""
    muted: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def notification_id(self) -> str:
        """Its own id; whoever gets it twice may drop one."""
        return digest(self.alert_id, self.number)

    def record(self) -> dict[str, Any]:
        """Fields of the Avro record."""
        fields = {name: value for name, value in asdict(self).items() if name not in ("at_ms", "since_ms")}
        return {**fields, "notification_id": self.notification_id, "at": self.at_ms, "since": self.since_ms, "labels": dict(self.labels)}

    def snapshot(self) -> dict[str, Any]:
        """State as plain texts and numbers."""
        return {**asdict(self), "labels": dict(self.labels)}


@dataclass(frozen=True, slots=True)
class Message:
    """What one channel sends at once: notifications of one rule."""

    channel: str
    notifications: tuple[Notification, ...]

    @property
    def message_id(self) -> str:
        """The same whenever the same is sent again."""
        return digest(self.channel, *(notification.notification_id for notification in self.notifications))

    def snapshot(self) -> dict[str, Any]:
        """State as plain texts and numbers."""
        return {"channel": self.channel, "notifications": [notification.snapshot() for notification in self.notifications]}

    @staticmethod
    def load(state: Mapping[str, Any]) -> "Message":
        """From a snapshot."""
        return Message(state["channel"], tuple(Notification(**notification) for notification in state["notifications"]))
