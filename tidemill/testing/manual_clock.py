"""A clock that stands still until the test moves it."""

from datetime import UTC, datetime

from tidemill.shared.application.values import parse_duration
from tidemill.shared.instant import utc


class ManualClock:
    """Milliseconds since 1970, as a test says.

    Parameters
    ----------
    start
        ISO 8601, UTC where it says no zone.

    >>> clock = ManualClock("2026-01-05T12:00")
    >>> clock.advance("36h")
    >>> clock.now().isoformat()
    '2026-01-07T00:00:00+00:00'
    """

    def __init__(self, start: str = "2026-01-01") -> None:
        self._now_ms = _milliseconds(start)

    def now_ms(self) -> int:
        """Return milliseconds since 1970."""
        return self._now_ms

    def now(self) -> datetime:
        """Return the instant, in UTC."""
        return utc(self._now_ms)

    def set(self, instant: str) -> None:
        """Move to an instant.

        Raises
        ------
        ValueError
            It lies in the past: what was published cannot become known earlier.
        """
        wanted = _milliseconds(instant)
        if wanted < self._now_ms:
            raise ValueError(f"expected an instant from {self.now().isoformat()} on, got {instant}: time does not go back")
        self._now_ms = wanted

    def advance(self, duration: str) -> None:
        """Let time pass: ``250ms``, ``90s``, ``36h``, ``2d``."""
        self._now_ms += parse_duration(duration)


def _milliseconds(text: str) -> int:
    instant = datetime.fromisoformat(text)
    return round((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp() * 1_000)
