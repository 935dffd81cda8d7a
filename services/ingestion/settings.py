"""What ingestion's environment may say beyond every service's."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tidemill.shared.observability.settings import ServiceSettings


class ClockSettings(BaseModel):
    """Where time comes from: ``TIDEMILL_INGESTION__CLOCK``, ``..._TICK_MS``, ``..._STEP_MS``.

    Attributes
    ----------
    clock
        ``live``: idle topics do not hold the merge back, and idle time becomes ticks. ``replay``: heartbeats alone bound it.
    tick_ms
        Live: how often an idle journal is moved on.
    step_ms
        Live: a larger step of the host's clock is not simply journaled (see `HostClock`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clock: Literal["live", "replay"] = "live"
    tick_ms: int = Field(default=1_000, ge=1)
    step_ms: int = Field(default=10_000, ge=1)


class IngestionSettings(ServiceSettings):
    """Every service's settings, and the clock."""

    ingestion: ClockSettings = ClockSettings()
