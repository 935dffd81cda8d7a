"""Instants of records as dates, whatever the records say."""

from datetime import UTC, datetime

FIRST_MS, LAST_MS = -62_135_596_800_000, 253_402_300_799_000


def utc(time_ms: float) -> datetime:
    """Return milliseconds since 1970 as a date: one before the year 1 or after 9999, which no date is, as the nearest one.

    Examples
    --------
    >>> utc(1_500).isoformat(), utc(2**62).year
    ('1970-01-01T00:00:01.500000+00:00', 9999)
    """
    return datetime.fromtimestamp(min(max(time_ms, FIRST_MS), LAST_MS) / 1000, UTC)
