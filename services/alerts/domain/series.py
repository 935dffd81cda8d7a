"""One alert while it lasts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tidemill.services.alerts.domain.notification import Notification, Status, digest
from tidemill.shared.application.alert_rules import CompiledRule


class _Known(dict[str, Any]):
    def __missing__(self, name: str) -> str:
        return "{" + name + "}"


@dataclass(slots=True)
class Series:
    """The state of one rule for one group of records: pending, or firing.

    Attributes
    ----------
    since_ms, origin
        When the condition became true, and by which record.
    last_ms
        When it was true last.
    said_ms, number
        When the last notification was made, and how many there were.
    quiet
        Whether the last one was muted.
    is_history
        Whether it began by a record from before the installation.
    fields
        Of the newest record.
    """

    rule: str
    key: tuple[str, ...]
    since_ms: int
    origin: str
    last_ms: int
    firing: bool = False
    said_ms: int = 0
    number: int = 0
    records: int = 1
    quiet: bool = False
    is_history: bool = False
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def alert_id(self) -> str:
        """The same from the first notification to the last."""
        return digest(self.rule, *self.key, self.since_ms, self.origin)

    def say(self, rule: CompiledRule, status: Status, now_ms: int, muted: bool) -> Notification:
        """Make the next notification."""
        self.said_ms, self.number, self.quiet = now_ms, self.number + 1, muted
        labels = {name: shown(self.fields.get(name)) for name in rule.group}
        return Notification(
            self.alert_id, self.rule, status, self.number, rule.severity, rule.owner, summary_of(rule.summary, self.fields), detail_of(self.fields),
            now_ms, self.since_ms, self.records, self.origin, muted, labels,
        )  # fmt: skip

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists, texts and numbers."""
        return {name: getattr(self, name) for name in self.__slots__} | {"key": list(self.key), "fields": dict(self.fields)}

    @staticmethod
    def load(state: Mapping[str, Any]) -> "Series":
        """From a snapshot."""
        return Series(**{**state, "key": tuple(state["key"])})


def series_key(rule: CompiledRule, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what tells the series of a rule apart: its name and the columns that it groups by."""
    return rule.name, *(str(fields.get(name)) for name in rule.group)


def shown(value: object) -> str:
    """Return a column's value as people read it.

    >>> shown(0.25), shown(None), shown(3.0)
    ('0.25', '', '3')
    """
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def summary_of(text: str, fields: Mapping[str, Any]) -> str:
    """Return a rule's summary, with the columns that it names in braces; what is no column stays as it is written.

    >>> summary_of("{model} of {nobody}", {"model": "fraud"})
    'fraud of {nobody}'
    """
    try:
        return text.format_map(_Known({name: shown(value) for name, value in fields.items()}))
    except (ValueError, IndexError, AttributeError, KeyError):
        return text


def detail_of(fields: Mapping[str, Any]) -> str:
    """Return the columns that say something."""
    return ", ".join(f"{name}: {shown(value)}" for name, value in fields.items() if value not in (None, ""))
