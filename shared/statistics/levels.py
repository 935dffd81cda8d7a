"""How sure each of many looks must be, so that all looks of a year together are wrong with a bounded probability."""

from collections.abc import Iterable

YEAR_MS = 365 * 86_400_000
_SHARE = 0.25


def next_level(spent: Iterable[tuple[int, float]], now_ms: int, yearly: float) -> float:
    """Return the level of the next look: a quarter of what the last 365 days have left of the yearly one.

    In any 365 days the levels add up to less than `yearly`, however many looks there are; what was spent comes back a year later.

    Parameters
    ----------
    spent
        Instant and level of each look before.
    now_ms
        Instant of this one.

    Examples
    --------
    >>> next_level([], 0, 0.05)
    0.0125
    >>> round(next_level([(0, 0.0125)], 1, 0.05), 6)
    0.009375
    >>> next_level([(0, 0.0125)], YEAR_MS, 0.05)
    0.0125
    """
    left = yearly - sum(level for at_ms, level in spent if now_ms - YEAR_MS < at_ms <= now_ms)
    return max(0.0, left) * _SHARE
