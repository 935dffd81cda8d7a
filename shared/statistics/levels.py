"""How sure each of many looks must be, so that all looks of a year together are wrong with a bounded probability."""

from collections.abc import Iterable

YEAR_MS = 365 * 86_400_000
_SHARE, _SPENDABLE, _LEAST = 0.25, 0.8, 1e-12


def next_level(spent: Iterable[tuple[int, float]], now_ms: int, yearly: float) -> float:
    """Return the level of the next look: a quarter of what the last 365 days have left of four fifths of the yearly one.

    In any 365 days the levels add up to less than that, however many looks there are; what was spent comes back a year later. A fifth is kept for
    what observations are not: independent, with few of them to see by that they are not.

    Parameters
    ----------
    spent
        Instant and level of each look before.
    now_ms
        Instant of this one.

    Examples
    --------
    >>> next_level([], 0, 0.05)
    0.01
    >>> next_level([(0, 0.01)], 1, 0.05)
    0.0075
    >>> next_level([(0, 0.01)], YEAR_MS, 0.05)
    0.01
    """
    # Never nothing: an alpha that was lowered leaves looks that nearly nobody passes, not a division by zero.
    return max(_LEAST, _rounded(level_left(spent, now_ms, yearly) * _SHARE))


def level_left(spent: Iterable[tuple[int, float]], now_ms: int, yearly: float) -> float:
    """Return what the last 365 days have left of four fifths of the yearly level; parameters as of `next_level`.

    Examples
    --------
    >>> level_left([(0, 0.01)], 1, 0.05)
    0.03
    """
    return max(0.0, _rounded(_SPENDABLE * yearly - sum(level for at_ms, level in spent if now_ms - YEAR_MS < at_ms <= now_ms)))


def _rounded(level: float) -> float:
    return float(f"{level:.12g}")
