"""What a webhook is sent: Tidemill's own JSON, Slack's, Alertmanager's."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from tidemill.services.alerts.domain.notification import Message, Notification
from tidemill.shared.instant import utc

_COLOURS = {"info": "#2eb886", "warning": "#daa038", "critical": "#a30200"}
_MOST_ATTACHMENTS = 20


def body_of(body_format: str, app: str, message: Message) -> bytes:
    """Return the body of a message, UTF-8 JSON; the same message has the same body."""
    return json.dumps(_FORMATS[body_format](app, message), sort_keys=True, allow_nan=False, default=str).encode()


def title_of(app: str, message: Message) -> str:
    """Return one line that says what it is about."""
    first = message.notifications[0]
    more = f" and {len(message.notifications) - 1} more" if len(message.notifications) > 1 else ""
    return f"[{app}] {first.status} ({first.severity}): {first.summary}{more}"


def _tidemill(app: str, message: Message) -> Any:  # JSON
    return {"version": 1, "app": app, "message_id": message.message_id, "notifications": [one.record() for one in message.notifications]}


def _slack(app: str, message: Message) -> Any:  # JSON
    shown = message.notifications[:_MOST_ATTACHMENTS]
    return {
        "text": title_of(app, message),
        "attachments": [
            {
                "color": _COLOURS["info" if one.status == "resolved" else one.severity],
                "title": f"{one.status}: {one.summary}",
                "text": one.detail,
                "footer": f"{app} · {one.rule} · {one.owner} · {one.alert_id}",
                "ts": one.at_ms // 1000,
            }
            for one in shown
        ],
    }


def _alertmanager(app: str, message: Message) -> Any:  # JSON
    return [_alert(app, one) for one in message.notifications]


def _alert(app: str, one: Notification) -> dict[str, Any]:
    # Alertmanager tells alerts apart by all of their labels: those of the end are those of the beginning.
    labels = {**one.labels, "alertname": one.rule, "app": app, "severity": one.severity, "owner": one.owner, "alert_id": one.alert_id}
    over = one.status in ("resolved", "information")
    return {
        "labels": labels,
        "annotations": {"summary": one.summary, "description": one.detail},
        "startsAt": _instant(one.since_ms),
        **({"endsAt": _instant(one.at_ms)} if over else {}),
    }


def _instant(time_ms: int) -> str:
    return utc(max(0, time_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_FORMATS: Mapping[str, Callable[[str, Message], Any]] = {"tidemill": _tidemill, "slack": _slack, "alertmanager": _alertmanager}
