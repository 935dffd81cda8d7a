"""When trainings are asked for by the calendar: so long after the last request, or at the instants of a cron expression."""

import re
from functools import lru_cache
from itertools import islice, pairwise
from typing import Annotated, Any

from cronsim import CronSim, CronSimError
from pydantic import BeforeValidator, Field

from tidemill.shared.application.values import DURATION_PATTERN, parse_duration
from tidemill.shared.instant import utc

_FIELDS = 5
_LEAST_MS = 3_600_000
_SHORTEST_MS = 1_000
"""Each instant that is due is told, also when nothing is trained: a schedule of nothing would never come to an end."""
_LOOKED_AT = 60
# A calendar is looked through for fifty years, and dates end with the year 9999.
_LAST_YEAR = 9_900
_FROM_MS = 1_704_067_200_000
_EXPECTED = 'a duration such as 30d, or a cron expression of five fields in UTC such as "0 3 * * 1" (Mondays at 3:00)'


def parse_schedule(text: Any) -> int | str:  # whatever stands in the file
    """Return milliseconds of a duration of a second at least, or a cron expression that names instants at least an hour apart.

    >>> parse_schedule("7d"), parse_schedule("0  3 * * 1")
    (604800000, '0 3 * * 1')
    """
    if not isinstance(text, str):
        raise ValueError(f"{_EXPECTED}, found {text!r}")
    if re.match(DURATION_PATTERN, text):
        duration = parse_duration(text)
        if duration < _SHORTEST_MS:
            raise ValueError(f"a second between trainings at least, found {text!r}")
        return duration
    fields = text.split()
    if len(fields) != _FIELDS:
        raise ValueError(f"{_EXPECTED}, found {text!r}, which is neither")
    expression = " ".join(fields)
    try:
        instants = _instants(expression, _FROM_MS, _LOOKED_AT)
    except CronSimError as problem:
        raise ValueError(f"{_EXPECTED}, found {text!r}: {str(problem) or 'no such expression'}") from problem
    if not instants:
        raise ValueError(f"{_EXPECTED}, found {text!r}, which names no day that ever comes")
    if any(later - earlier < _LEAST_MS for earlier, later in pairwise(instants)):
        raise ValueError(f"{_EXPECTED}, at most once an hour, found {text!r}, which comes more often: name one minute")
    return expression


@lru_cache(maxsize=512)
def next_instant(schedule: int | str, after_ms: int) -> int | None:
    """Return when a training is due next, given the last request or the last instant that was passed over; None where a calendar ends.

    Parameters
    ----------
    schedule
        Milliseconds after the last request, or a cron expression, which is read in UTC: no hour is missing or comes twice.
    """
    if isinstance(schedule, int):
        return after_ms + schedule
    return next(iter(_instants(schedule, after_ms, 1)), None)


def usual_interval_ms(schedule: int | str) -> int:
    """Return how far apart trainings are; of a calendar, the mean over its next sixty instants."""
    if isinstance(schedule, int):
        return schedule
    instants = _instants(schedule, _FROM_MS, _LOOKED_AT)
    return (instants[-1] - instants[0]) // max(1, len(instants) - 1) or instants[0] - _FROM_MS


def schedule_words(schedule: int | str) -> str:
    """Return a schedule as the reason of a request says it."""
    return f"{schedule // 86_400_000} days after the last request" if isinstance(schedule, int) else f"the calendar says {schedule} (UTC)"


def _instants(expression: str, after_ms: int, count: int) -> list[int]:
    begin = utc(after_ms // 1000 * 1000)
    if begin.year > _LAST_YEAR:
        return []
    return [round(instant.timestamp() * 1000) for instant in islice(CronSim(expression, begin), count)]


_CronText = Annotated[str, Field(pattern=r"^\S+( +\S+){4}$", examples=["0 3 * * 1"])]
_ScheduleText = Annotated[str, Field(pattern=DURATION_PATTERN, examples=["30d"])] | _CronText
Schedule = Annotated[int | str, BeforeValidator(parse_schedule, json_schema_input_type=_ScheduleText)]
