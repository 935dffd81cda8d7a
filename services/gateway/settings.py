"""What the gateway's environment may say beyond every service's."""

from pydantic import BaseModel, ConfigDict, Field

from shared.observability.settings import ServiceSettings


class DoorSettings(BaseModel):
    """Where it listens: ``TIDEMILL_GATEWAY__HOST`` and ``TIDEMILL_GATEWAY__PORT`` (0: any free port, which the log names)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)


class GatewaySettings(ServiceSettings):
    """Every service's settings, and the door."""

    gateway: DoorSettings = DoorSettings()
