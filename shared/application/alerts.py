"""What people are told of an application, as its authors write it: rules, channels, mutes."""

from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from tidemill.shared.application.values import Columns, Duration, Frozen, Name, Owned, parse_duration

AlertSource = Literal["drift", "incidents", "health", "decisions", "retraining", "deployments", "rejected", "progress"]
AlertSeverity = Literal["info", "warning", "critical"]
LEVELS: tuple[AlertSource, ...] = ("incidents", "health", "progress")
ALWAYS_THERE = ("log", "topic")
WhichRules = Annotated[tuple[str, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given)]


class AlertRule(Owned):
    """A condition over the records of a public topic that people are told of.

    Records of ``incidents``, ``health`` and ``progress`` are levels: the newest one of its group says whether the condition holds; so are all of a
    rule whose condition names ``age_s``. Those of the other topics are events: each one for which the condition is true counts, and the alert is over
    when none has come for `resolve_after`.

    Attributes
    ----------
    where
        Which records concern the rule at all; the others neither raise nor resolve it.
    holds
        How long a level must stand before the alert fires.
    by
        Columns that tell one alert from another; by default those of the topic.
    repeat
        The cool-down: how long after a notification the next one of the same alert may come.
    once
        Each record is an information of its own: told once, never repeated nor resolved.
    """

    on: AlertSource
    where: str | None = None
    when: str
    holds: Duration = Field(default=0, alias="for")
    severity: AlertSeverity = "warning"
    channels: tuple[Name, ...] = ()
    by: Columns = ()
    repeat: Annotated[Duration, Field(gt=0)] = parse_duration("4h")
    resolve_after: Annotated[Duration, Field(gt=0)] = parse_duration("1d")
    once: bool = False
    summary: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "AlertRule":
        if self.on not in LEVELS and self.holds:
            raise ValueError(f"no for: records of {self.on} are events, which do not last; for is for {' and '.join(LEVELS)}")
        if self.on in LEVELS and self.once:
            raise ValueError(f"no once: records of {self.on} are levels, which last")
        return self


class AlertChannel(Frozen):
    """A way to people beside the log and the topic. Addresses with secrets in them, keys and passwords come by environment.

    Attributes
    ----------
    format
        Body of a webhook.
    severity
        The least that is sent.
    in_replay
        Whether a replay sends, too.
    """

    kind: Literal["webhook", "mail"]
    format: Literal["tidemill", "slack", "alertmanager"] = "tidemill"
    to: Columns = ()
    sender: str | None = Field(default=None, alias="from")
    severity: AlertSeverity = "info"
    in_replay: bool = False

    @model_validator(mode="after")
    def _complete(self) -> "AlertChannel":
        if self.kind == "mail" and (not self.to or self.sender is None):
            raise ValueError("to and from: the addresses of a mail")
        if self.kind == "webhook" and (self.to or self.sender):
            raise ValueError("no to and from: a webhook's address comes by environment, TIDEMILL_ALERTS__WEBHOOKS")
        return self


class Mute(Frozen):
    """Alerts that go to log and topic only, for a time or for good.

    Attributes
    ----------
    rules
        Names of rules; ``*`` stands for anything.
    models
        Names of models, likewise. A rule whose records name no model is muted by ``*`` only.
    since, until
        Without an offset: UTC.
    """

    rules: WhichRules = Field(min_length=1)
    models: WhichRules = Field(default=("*",), min_length=1)
    since: datetime | None = Field(default=None, alias="from")
    until: datetime | None = None

    def holds_at(self, time_ms: int) -> bool:
        """Whether it is in force at an instant."""
        return (self.since is None or milliseconds(self.since) <= time_ms) and (self.until is None or time_ms < milliseconds(self.until))

    def covers(self, rule: str, model: str) -> bool:
        """Whether it mutes the alerts of a rule for a model (empty: none) while it is in force."""
        return any(fnmatchcase(rule, pattern) for pattern in self.rules) and any(fnmatchcase(model, pattern) for pattern in self.models)


def milliseconds(instant: datetime) -> int:
    """Return an instant in milliseconds since 1970; without an offset it is UTC."""
    return round((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp() * 1000)


class Alerts(Frozen):
    """What people are told, and how. It changes nothing of what is computed.

    Attributes
    ----------
    defaults
        Whether the rules that every application has are in force.
    off
        Names of such rules that are not; ``*`` stands for anything.
    group_wait
        How long notifications of one rule are gathered into one message of a webhook or mail.
    since
        What a new installation tells of the records that it finds. ``open``: levels that still stand, and events of the last hour.
        ``beginning``: everything. An instant: levels and events from there, and what still stands of before.
    """

    defaults: bool = True
    off: WhichRules = ()
    rules: dict[Name, AlertRule] = Field(default={})
    channels: dict[Name, AlertChannel] = Field(default={})
    mute: tuple[Mute, ...] = ()
    group_wait: Duration = parse_duration("10s")
    since: Literal["open", "beginning"] | datetime = "open"

    @model_validator(mode="after")
    def _named(self) -> "Alerts":
        for name in self.channels:
            if name in ALWAYS_THERE:
                raise ValueError(f"channels: {name} is there always")
        for name, rule in self.rules.items():
            if unknown := [channel for channel in rule.channels if channel not in (*ALWAYS_THERE, *self.channels)]:
                raise ValueError(f"rules.{name}.channels: one of {', '.join((*ALWAYS_THERE, *self.channels))}, found {unknown[0]}")
        return self
