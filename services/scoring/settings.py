"""What scoring's environment may say beyond every service's."""

from tidemill.shared.observability.settings import RunClockSettings, ServiceSettings


class ScoringSettings(ServiceSettings):
    """Every service's settings, and whether the run's time is the host's."""

    ingestion: RunClockSettings = RunClockSettings()
