"""How dates and times are written in a table: one pattern for all values of a column, or none."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import numpy as np
import polars as pl

from tidemill.replay.file_rows import DataSetError

_ISO_DAY = r"^\d{4}-\d{2}-\d{2}$"
_ISO_TIME = r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}([.,]\d{1,9})?)?( ?([Zz]|UTC|GMT|[+-]\d{2}(:?\d{2})?))?$"
_MIDNIGHT = r"^(\d{4}-\d{2}-\d{2}[Tt ])24:(00(?::00(?:\.0+)?)?(?: ?(?:[Zz]|UTC|GMT|[+-]\d{2}(?::?\d{2})?))?)$"
"""The end of a day, as ISO 8601 and those who count hours from 1 to 24 have it."""
_TAIL = r"([ T]\d{1,2}:\d{2}(:\d{2})?( ?[AaPp][Mm])?)?$"
_PARTS = (
    (rf"^\d{{4}}/\d{{1,2}}/\d{{1,2}}{_TAIL}", "%Y/%m/%d"),
    (rf"^\d{{1,2}}\.\d{{1,2}}\.\d{{4}}{_TAIL}", "%d.%m.%Y"),
    (rf"^\d{{1,2}}-[A-Za-z]{{3}}-\d{{4}}{_TAIL}", "%d-%b-%Y"),
    (rf"^\d{{1,2}} [A-Za-z]{{3}} \d{{4}}{_TAIL}", "%d %b %Y"),
    (rf"^[A-Za-z]{{3}} \d{{1,2}}, \d{{4}}{_TAIL}", "%b %d, %Y"),
)
_SLASHES = rf"^\d{{1,2}}/\d{{1,2}}/\d{{4}}{_TAIL}"
_HYPHENS = rf"^\d{{1,2}}-\d{{1,2}}-\d{{4}}{_TAIL}"
_UNITS = (
    ("seconds", 1e8, 4.2e9, 1e3),
    ("milliseconds", 1e11, 4.2e12, 1.0),
    ("microseconds", 1e14, 4.2e15, 1e-3),
    # From the year 2000 on: hundreds of nanoseconds since the years 1 and 1601, as Windows counts them, are fewer, and none of these.
    ("nanoseconds", 9.46e17, 4.2e18, 1e-6),
)
_COMPACT = (
    (19_700_101, 21_000_101, "%Y%m%d", "YYYYMMDD"),
    # As seconds these are years beyond 2032, which no run takes.
    (1_970_010_100, 2_100_010_100, "%Y%m%d%H", "YYYYMMDDHH"),
    (197_001_010_000, 210_001_010_000, "%Y%m%d%H%M", "YYYYMMDDHHMM"),
    (19_700_101_000_000, 21_000_101_000_000, "%Y%m%d%H%M%S", "YYYYMMDDHHMMSS"),
)
UNIT_NAMES = frozenset(unit for unit, *_ in _UNITS)
_MONTHS = 12
_MOST = 0.9


@dataclass(frozen=True, slots=True)
class Pattern:
    """How a column's times are written: as strptime has it, ISO 8601 being a case of its own."""

    text: str
    iso: bool = False
    has_time: bool = False


def date_format(given: pl.Series) -> Pattern | None:
    """Return the pattern that every one of the texts has; None when there is none, or when day and month cannot be told apart."""
    if _all(given, _ISO_DAY):
        return Pattern("%Y-%m-%d", iso=True) if _reads(given, "%Y-%m-%d") else None
    if bool(given.str.contains(f"{_ISO_DAY}|{_ISO_TIME}").all()):
        return Pattern("ISO 8601", iso=True, has_time=True)
    for look, text in _PARTS:
        if _all(given, look):
            return _with_time(given, text)
    for look, mark in ((_SLASHES, "/"), (_HYPHENS, "-")):
        if _all(given, look):
            first, second = (given.str.extract(rf"^(\d+){mark}(\d+){mark}", k).cast(pl.Int64) for k in (1, 2))
            days_first, months_first = bool((first > _MONTHS).any()), bool((second > _MONTHS).any())
            if days_first != months_first:
                return _with_time(given, f"%d{mark}%m{mark}%Y" if days_first else f"%m{mark}%d{mark}%Y")
    return None


def odd_time(given: pl.Series) -> int | None:
    """Return the place of the first text that is no time where nine of ten are, written in one way; None when there is no such way."""
    looks = (f"{_ISO_DAY}|{_ISO_TIME}", *(look for look, _ in _PARTS), _SLASHES, _HYPHENS)
    for look in looks:
        fits = given.str.contains(look)
        if _MOST * len(given) <= int(fits.sum()) < len(given) and date_format(given.filter(fits)) is not None:
            return int((~fits).arg_true()[0])
    return None


def _with_time(given: pl.Series, text: str) -> Pattern | None:
    tail = given.str.contains(":", literal=True)
    if not bool(tail.any()):
        return Pattern(text) if _reads(given, text) else None
    if not bool(tail.all()):
        return None
    halves = given.str.extract(r"( ?)[AaPp][Mm]$", 1)
    if halves.null_count() == len(halves):
        hour, half = "%H", ""
    elif halves.n_unique() == 1:
        hour, half = "%I", f"{halves[0]}%p"
    else:
        return None
    whole = f"{text} {hour}:%M:%S{half}" if _all(given, r":\d{2}:\d{2}( ?[AaPp][Mm])?$") else f"{text} {hour}:%M{half}"
    return Pattern(whole, has_time=True) if _reads(given, whole) else None


def _reads(given: pl.Series, text: str) -> bool:
    return given.str.to_datetime(text, strict=False).null_count() == 0


def read_dates(values: pl.Series, pattern: Pattern) -> tuple[pl.Series, Literal["date", "time"]]:
    """Return dates, or times in UTC (texts without an offset are UTC)."""
    if not pattern.has_time:
        return values.str.to_datetime(pattern.text, strict=False).cast(pl.Date), "date"
    if not pattern.iso:
        return values.str.to_datetime(pattern.text, strict=False).cast(pl.Datetime("ms")), "time"
    whole = values.str.replace(",", ".", literal=True).str.replace(r"^(\d{4}-\d{2}-\d{2})$", "${1}T00:00")
    midnights = whole.str.contains(_MIDNIGHT)
    whole = whole.str.replace(_MIDNIGHT, "${1}00:${2}")
    whole = whole.str.replace(r"^(\d{4}-\d{2}-\d{2})[ t]", "${1}T").str.replace(r" ?([Zz]|UTC|GMT)$", "+00:00")
    whole = whole.str.replace(r" ?([+-]\d{2}):?(\d{2})?$", "${1}:${2}").str.replace(r"([+-]\d{2}):$", "${1}:00")
    whole = whole.str.replace(r"T(\d{2}:\d{2})($|[+-])", "T${1}:00${2}")
    offset = whole.str.contains(r"[+-]\d{2}:\d{2}$")
    whole = pl.select(pl.when(offset).then(whole).otherwise(whole + "+00:00")).to_series()
    times = whole.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", time_zone="UTC", strict=False)
    return _next_day(times.dt.replace_time_zone(None).cast(pl.Datetime("ms")), midnights), "time"


def numbers_as_times(name: str, values: pl.Series, declared: str | None) -> tuple[pl.Series, str]:
    """Return the times that a column of numbers holds, and in which unit they are.

    Raises
    ------
    DataSetError
        The numbers are no times: years, steps, days.
    """
    # Nobody's clock was at zero: it is how a missing time is often written.
    values = values.set(values == 0, None)
    given = values.drop_nulls().cast(pl.Float64)
    if not len(given):
        raise DataSetError(f"column {name!r}: expected times, found no number but 0")
    low, high = float(np.min(given.to_numpy())), float(np.max(given.to_numpy()))
    whole = values.cast(pl.Int64, strict=False)
    for least, most, pattern, words in _COMPACT:
        if declared is None and least <= low and high < most:
            written = _compact_times(whole.cast(pl.String), pattern)
            if written.null_count() == values.null_count():
                return written.cast(pl.Datetime("ms")).alias(name), words
    for unit, first, last, factor in _UNITS:
        if declared == unit or (declared is None and first <= low and high < last):
            scaled = (values.cast(pl.Float64) * factor).round().cast(pl.Int64)
            return scaled.cast(pl.Datetime("ms")).alias(name), unit
    raise DataSetError(
        f"column {name!r}: expected times (ISO 8601, a date such as 31.12.2024, or seconds, milliseconds, microseconds or nanoseconds since 1970),"
        f" found numbers from {low:,.10g} to {high:,.10g}; leave --time out and the row number is time, or say what they are with --time-format"
    )


def _compact_times(digits: pl.Series, pattern: str) -> pl.Series:
    """Read digits; the hour 24 is the midnight behind its day, and an hour alone is a whole one."""
    if not pattern.endswith("%H"):
        return digits.str.to_datetime(pattern, strict=False)
    midnights = digits.str.ends_with("24")
    times = (digits.str.replace(r"24$", "00") + "00").str.to_datetime(f"{pattern}%M", strict=False)
    return _next_day(times, midnights)


def _next_day(times: pl.Series, midnights: pl.Series) -> pl.Series:
    """Return times in which some midnights, written as 24:00, are those behind their day."""
    return pl.select(pl.when(midnights).then(times + timedelta(days=1)).otherwise(times)).to_series().alias(times.name)


def texts_as_times(name: str, values: pl.Series, declared: str | None) -> pl.Series:
    """Return the times of a column of texts; raises DataSetError for the first that is none."""
    example = values.drop_nulls().head(1).to_list()[0]
    if declared is None:
        given = values.drop_nulls()
        if (place := odd_time(given)) is not None:
            row = int((values.is_not_null().cum_sum() == place + 1).arg_true()[0])
            like = example if place else given[1]
            raise DataSetError(
                f"column {name!r}, row {row + 1}: expected a time written as the others are ({like!r}), found {values[row]!r};"
                " correct it, or leave it empty (rows without a time are left out)"
            )
        mark = next((mark for look, mark in ((_SLASHES, "/"), (_HYPHENS, "-")) if _all(given, look)), None)
        why = "day and month cannot be told apart" if mark else "they are not written in one way that is known"
        way = (
            f'--time-format "%d{mark}%m{mark}%Y" or "%m{mark}%d{mark}%Y"' if mark else 'its pattern with --time-format, for example "%d.%m.%y %H:%M"'
        )
        raise DataSetError(f"column {name!r}: expected times, found texts such as {example!r}: {why}; say {way}")
    if "%Z" in declared:
        raise DataSetError(
            f"column {name!r}: expected a pattern whose times say their offset from UTC (%z), found {declared!r}: the name of a zone does not"
        )
    # In Python's patterns a fraction of a second is .%f, and in those of the reader %.f; the other one is read as nanoseconds.
    times = values.str.to_datetime(declared.replace(".%f", "%.f"), strict=False)
    bad = times.is_null() & values.is_not_null()
    if bool(bad.any()):
        row = int(bad.arg_true()[0])
        raise DataSetError(f"column {name!r}, row {row + 1}: expected a time as {declared!r}, found {values[row]!r}")
    return times.cast(pl.Datetime("ms")).alias(name)


def _all(values: pl.Series, pattern: str) -> bool:
    return bool(values.str.contains(pattern).all())
