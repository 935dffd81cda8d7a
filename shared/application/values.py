"""Values as authors write them in the application's files, and what all nouns there have in common."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from tidemill.shared.avro.times import parse_time_format

UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
DURATION_PATTERN = r"^(\d+(?:\.\d+)?)(ms|s|m|h|d)$"
_DURATION = re.compile(DURATION_PATTERN)
LONGEST_MS = 36_525 * UNITS_MS["d"]
MOST_ROWS = 1_000_000_000
"""What a number of rows or labels may be: more never come, and what waits for them waits for ever."""
_EVENTS = re.compile(r"^(\d+(?:\.\d+)?) (events?|labels?)$")


def parse_duration(text: Any) -> int:  # whatever stands in the file
    """Return milliseconds for ``30s``, ``15m``, ``3h``, ``7d``; a century is the longest.

    >>> parse_duration("3h")
    10800000
    """
    match = _DURATION.match(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"a duration such as 30s, 15m, 3h or 7d, found {text!r}")
    duration = float(match[1]) * UNITS_MS[match[2]]
    if duration > LONGEST_MS:
        raise ValueError(f"a duration of at most 36525d, a century, found {text!r}")
    return round(duration)


def parse_half_life(text: Any) -> tuple[int | None, float | None]:
    """Return a half-life in milliseconds or in events; exactly one of the two is not None.

    >>> parse_half_life("6h"), parse_half_life("30 events")
    ((21600000, None), (None, 30.0))
    """
    match = _EVENTS.match(text) if isinstance(text, str) else None
    if match is not None and float(match[1]) > 0:
        return None, float(match[1])
    try:
        duration = parse_duration(text)
    except ValueError:
        duration = 0
    if duration <= 0:
        raise ValueError(f"a half-life such as 6h or 30 events, found {text!r}")
    return duration, None


_DurationText = Annotated[str, Field(pattern=DURATION_PATTERN, examples=["30s", "15m", "3h", "7d"])]
Duration = Annotated[int, BeforeValidator(parse_duration, json_schema_input_type=_DurationText)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)]
Owner = Annotated[str, Field(min_length=1)]
TimeFormat = Annotated[str, AfterValidator(parse_time_format), Field(examples=["seconds", "%Y%m%d"])]
Columns = Annotated[
    tuple[str, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given, json_schema_input_type=str | tuple[str, ...])
]


class Frozen(BaseModel):
    """A noun of the file: what it does not know is refused, and nothing changes it."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Owned(Frozen):
    """A part that a team answers for; without an owner of its own, the application's. Who answers for a part does not change what it computes."""

    owner: Owner | None = Field(default=None, exclude=True)
