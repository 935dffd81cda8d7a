"""What the gateway's environment may say beyond every service's."""

import ipaddress
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from tidemill.shared.observability.settings import RunClockSettings, ServiceSettings

Role = Literal["read", "publish", "operate"]


class TokenSettings(BaseModel):
    """One bearer token: at least 16 characters, and what its holder may do (no role includes another)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: SecretStr = Field(min_length=16)
    roles: tuple[Role, ...] = Field(min_length=1)


class DoorSettings(BaseModel):
    """Who may come in, and how much of it: ``TIDEMILL_GATEWAY__HOST`` and so on.

    Attributes
    ----------
    host, port
        Where it listens; port 0: any free one, which the log names. Without tokens only a loopback address.
    tokens, tokens_file
        Tokens by the name of their holder, as JSON: ``{"web": {"token": "...", "roles": ["read"]}}``, in the environment, in a file, or both. A
        file that is not there is made, with one random token for each role, readable by its owner alone.
    requests_per_s, burst
        What one client may ask: so many requests a second in the long run, so many at once. A client is a token, or without one an address.
    max_request_bytes
        Greatest body of a request that is no event.
    max_event_bytes
        Greatest event; by default what the broker takes on the stream's topic (``max.message.bytes``).
    max_depth
        How deep JSON may be nested.
    head_timeout_s, body_timeout_s, answer_timeout_s
        How long a client may take to send a request's head and its body, and how long it may stop reading an answer.
    max_connections
        More are answered 503.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    tokens: dict[str, TokenSettings] = Field(default_factory=dict)
    tokens_file: Path | None = None
    requests_per_s: float = Field(default=2_000.0, gt=0)
    burst: int = Field(default=4_000, ge=1)
    max_request_bytes: int = Field(default=1_000_000, ge=1)
    max_event_bytes: int | None = Field(default=None, ge=1)
    max_depth: int = Field(default=32, ge=1, le=200)
    head_timeout_s: float = Field(default=10.0, gt=0)
    body_timeout_s: float = Field(default=10.0, gt=0)
    answer_timeout_s: float = Field(default=10.0, gt=0)
    max_connections: int = Field(default=1_000, ge=1)

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @model_validator(mode="after")
    def _closed_to_the_world(self) -> Self:
        if not self.on_loopback and not self.tokens and self.tokens_file is None:
            raise ValueError(
                f"expected tokens (TIDEMILL_GATEWAY__TOKENS or TIDEMILL_GATEWAY__TOKENS_FILE), as {self.host} is no loopback address;"
                " without tokens the gateway listens on a loopback address only"
            )
        return self


class GatewaySettings(ServiceSettings):
    """Every service's settings, and the door."""

    ingestion: RunClockSettings = RunClockSettings()
    gateway: DoorSettings = DoorSettings()
