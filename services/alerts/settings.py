"""What the environment says of alerts: addresses, keys and passwords, and how patiently is sent."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from tidemill.shared.observability.settings import CommandsSettings, RunClockSettings, ServiceSettings


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WebhookSettings(_Frozen):
    """Where a webhook is: the address is a secret (Slack's says who may post), as is the key with which bodies are signed."""

    url: SecretStr
    key: SecretStr | None = Field(default=None, min_length=16)
    timeout_s: float = Field(default=10.0, gt=0)


class SmtpSettings(_Frozen):
    """The mail server."""

    host: str = "127.0.0.1"
    port: int = Field(default=25, ge=1, le=65535)
    starttls: bool = False
    user: str | None = None
    password: SecretStr | None = None
    timeout_s: float = Field(default=10.0, gt=0)


class AlertsSettings(_Frozen):
    """How alerts are sent: ``TIDEMILL_ALERTS__WEBHOOKS`` and so on.

    Attributes
    ----------
    webhooks
        By the name of their channel, as JSON: ``{"ops": {"url": "...", "key": "..."}}``.
    attempts
        Of a message, before it is given up and that is reported.
    backoff_initial_s, backoff_max_s
        Wait between attempts; doubles.
    tick_s
        How often a live clock is looked at, and the longest that progress records are gathered.
    """

    webhooks: dict[str, WebhookSettings] = Field(default_factory=dict)
    smtp: SmtpSettings = SmtpSettings()
    attempts: int = Field(default=12, ge=1)
    backoff_initial_s: float = Field(default=1.0, gt=0)
    backoff_max_s: float = Field(default=300.0, gt=0)
    tick_s: float = Field(default=1.0, gt=0)


class AlertServiceSettings(ServiceSettings):
    """Every service's settings, and those of alerts."""

    commands: CommandsSettings = CommandsSettings()
    ingestion: RunClockSettings = RunClockSettings()
    alerts: AlertsSettings = AlertsSettings()
