"""Numbers that JSON has."""

import math


def json_number(value: float | None) -> float | None:
    """Return a number, or None in place of infinities and NaN.

    >>> json_number(1.5), json_number(float("nan")), json_number(None)
    (1.5, None, None)
    """
    return value if value is not None and math.isfinite(value) else None
