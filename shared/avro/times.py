"""How times are written in JSON and in files, where no schema says it: numbers of some unit, ISO 8601, or a pattern. Nothing is guessed.

A number whose unit nobody has declared is milliseconds since the epoch (in JSON: of its type's unit). Where that gives a time that hardly anybody
means (1970, the year 55,000), or where the digits are those of a date, the number is refused with what it may be and how to declare it.
"""

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

UNITS_MS = {"milliseconds": 1.0, "seconds": 1e3, "microseconds": 1e-3, "nanoseconds": 1e-6}
ISO = "iso8601"
_TIMES = {"milliseconds": pa.timestamp("ms"), "microseconds": pa.timestamp("us")}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_MS = 31_536_000_000
_YEAR_1_MS, _YEAR_10000_MS = -62_135_596_800_000, 253_402_300_800_000
_DIGITS = re.compile(r"[+-]?\d+(\.0*)?")
_COMPACT = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
# The digits of 20240115123000 are a time in the year 2611, those of 202401151230 one in 1976.
_COMPACT_SPANS = ((190_001_010_000, 210_013_000_000), (19_000_101_000_000, 21_001_300_000_000))
_COMPACT_YEARS = range(1900, 2101)
_ONLY_DIGITS = re.compile(r"(%[YmdHMSj])+")


class CellError(ValueError):
    """A value of a column cannot be taken: carries its row, counted from 0, and what was expected and what came."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


class DoubtfulTimeError(ValueError):
    """A number whose unit nobody has declared is hardly meant as milliseconds."""


def parse_time_format(text: str) -> str:
    """Return a declared format as it is; ValueError when it is none.

    >>> parse_time_format("seconds"), parse_time_format("%Y%m%d")
    ('seconds', '%Y%m%d')
    """
    if text in UNITS_MS or text == ISO:
        return text
    if "%" in text:
        try:
            _matched(datetime(2024, 1, 15, 12, 30, 45, tzinfo=UTC).strftime(text), text)
        except ValueError as problem:
            raise ValueError(f"a pattern as strptime has them, such as '%Y%m%d', found {text!r}: {problem}") from problem
        if "%Y" in text or "%y" in text:
            return text
    raise ValueError(f"one of {', '.join([*UNITS_MS, ISO])} or a pattern with the year such as '%Y%m%d', found {text!r}")


def read_time(
    item: int | float | str, declared: str | None, *, plausible: bool = True, numbers: str = "milliseconds", unit: str = "milliseconds"
) -> int:  # fmt: skip
    """Return milliseconds, or microseconds (`unit`), since the epoch.

    Parameters
    ----------
    declared
        A unit, ``iso8601`` or a pattern; None: whole numbers are of the unit `numbers`, text is ISO 8601 (without an offset: UTC).
    plausible
        Whether an undeclared number must be a likely time.

    Raises
    ------
    ValueError
        Says what was expected, what came, and how to declare what it may be; a DoubtfulTimeError where it may well be something else.

    >>> read_time(1_704_067_200, "seconds") == read_time("2024-01-01T00:00:00Z", None) == read_time("20240101", "%Y%m%d")
    True
    """
    if declared is not None and declared not in UNITS_MS:
        return _of_text(str(item), None if declared == ISO else declared, unit)
    if isinstance(item, str):
        text = item.strip()
        if declared is None and not _DIGITS.fullmatch(text):
            return _of_text(text, None, unit)
        item = _number(text)
    written = declared or numbers
    if isinstance(item, float) and not math.isfinite(item):
        raise ValueError(f"expected a time in the years 1 to 9999 in {written}, found {item}")
    if (declared is None or written == unit) and item != int(item):
        raise ValueError(f"expected whole {written} or ISO 8601 text, found {item!r}")
    time_ms = int(item) if written == "milliseconds" and item == int(item) else _scaled(item, UNITS_MS[written])
    if declared is None and plausible and is_implausible(time_ms):
        raise DoubtfulTimeError(_doubt(int(item), written))
    if not _YEAR_1_MS <= time_ms < _YEAR_10000_MS:
        raise ValueError(_doubt(int(item), written) if declared is None else f"expected a time in the years 1 to 9999 in {declared}, found {item}")
    return time_ms if unit == "milliseconds" else _scaled(item, UNITS_MS[written] / UNITS_MS[unit])


def read_times(column: pa.Array, declared: str | None, *, every: bool, unit: str = "milliseconds") -> pa.Array:
    """Return a column of numbers or texts as times of the same length, `timestamp("ms")`, or `timestamp("us")` where microseconds are asked for.

    Parameters
    ----------
    every
        Whether every undeclared number must be a likely time; else one of them is enough (a column of birthdays).

    Raises
    ------
    CellError
    """
    if pa.types.is_integer(column.type) and declared in (None, "milliseconds"):
        times = column.cast(pa.int64())
    elif _is_text(column) and declared in (None, "milliseconds") and pc.all(pc.match_substring_regex(column, r"^-?\d{1,18}$")).as_py():
        times = column.cast(pa.int64())
    else:
        return _one_by_one(column, lambda item: read_time(item, declared, plausible=every, unit=unit)).cast(_TIMES[unit])
    values = np.asarray(pc.fill_null(times, 0).to_numpy(zero_copy_only=False), np.int64)
    outside = (values < _YEAR_1_MS) | (values >= _YEAR_10000_MS)
    doubtful = implausible(values) if declared is None else outside
    counted = ~np.asarray(times.is_null().to_numpy(zero_copy_only=False), np.bool_) & (values != 0)
    if doubtful.any() and (every or outside.any() or declared is not None or (doubtful == counted).all()):
        row = int(np.flatnonzero(outside if outside.any() else doubtful)[0])
        raise CellError(row, _doubt(int(values[row])))
    return times.cast(pa.timestamp("ms")).cast(_TIMES[unit])


def implausible(times_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which numbers, read as milliseconds, are hardly meant as such; bool array of shape (n,). Zero is: nobody's seconds are zero either."""
    (_, later), (earlier, _) = _COMPACT_SPANS
    if not len(times_ms) or (times_ms.min() >= later and times_ms.max() < earlier):
        return np.zeros(len(times_ms), np.bool_)
    near = (np.abs(times_ms) < _YEAR_MS) & (times_ms != 0)
    far = (times_ms < _YEAR_1_MS) | (times_ms >= _YEAR_10000_MS)
    doubtful = near | far
    for low, high in _COMPACT_SPANS:
        for row in np.flatnonzero((times_ms >= low) & (times_ms < high)).tolist():
            doubtful[row] |= _compact(int(times_ms[row])) is not None
    return np.asarray(doubtful, np.bool_)


def is_implausible(time_ms: int) -> bool:
    """Say whether a number, read as milliseconds, is hardly meant as such."""
    if not _YEAR_1_MS <= time_ms < _YEAR_10000_MS or (-_YEAR_MS < time_ms < _YEAR_MS and time_ms != 0):
        return True
    return any(low <= time_ms < high for low, high in _COMPACT_SPANS) and _compact(time_ms) is not None


def instant_text(time_ms: int) -> str:
    """Return an instant as people read it, whatever its year."""
    return f"{np.datetime64(time_ms, 'ms')}Z" if -(2**62) < time_ms < 2**62 else f"{time_ms} ms"


def _doubt(number: int, written: str = "milliseconds") -> str:
    """Say what a number may be instead of what it is taken for."""
    readings = []
    for unit, factor in UNITS_MS.items():
        time_ms = _scaled(number, factor)
        if unit != written and not is_implausible(time_ms) and -1_577_923_200_000 < time_ms < 4_102_444_800_000:
            readings.append(f"`{unit}` ({instant_text(time_ms)})")
    pattern = _compact(number)
    if pattern is not None:
        readings.insert(0, f'`"{pattern}"` ({_matched(str(number), pattern):%Y-%m-%dT%H:%M:%SZ})')
    as_it_is = f"found {number}, which in {written} is {instant_text(_scaled(number, UNITS_MS[written]))}"
    maybe = f"; it may be {' or '.join(readings)}" if readings else ""
    return f"expected a time as {written} since the epoch or ISO 8601 text, {as_it_is}{maybe}; declare what it is in the stream's `times`"


def _compact(number: int) -> str | None:
    text = str(number)
    pattern = _COMPACT.get(len(text))
    if pattern is None:
        return None
    try:
        moment = _matched(text, pattern)
    except ValueError:
        return None
    return pattern if moment.year in _COMPACT_YEARS else None


def _matched(text: str, pattern: str) -> datetime:
    """Return what a pattern reads; without an offset: UTC."""
    moment = datetime.strptime(text, pattern)  # noqa: DTZ007 - the next line says it
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _of_text(text: str, pattern: str | None, unit: str) -> int:
    try:
        moment = datetime.fromisoformat(text) if pattern is None else _matched(text, pattern)
    except ValueError:
        expected = "milliseconds since the epoch or ISO 8601 text such as 2024-01-15T12:30:00Z" if pattern is None else f"a time as {pattern!r}"
        raise ValueError(f"expected {expected}, found {text!r}") from None
    if pattern is not None and _ONLY_DIGITS.fullmatch(pattern) and moment.strftime(pattern) != text:
        # strptime takes 2024115 for the fifth of November.
        raise ValueError(f"expected a time as {pattern!r} with all its digits, found {text!r}")
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(**{unit: 1})


def _number(text: str) -> int | float:
    try:
        return int(text.split(".")[0]) if _DIGITS.fullmatch(text) else float(text)
    except ValueError:
        raise ValueError(f"expected a number, found {text!r}") from None


def _scaled(number: int | float, factor: float) -> int:
    if isinstance(number, float):
        if not np.isfinite(number):
            raise ValueError(f"expected a number, found {number}")
        return round(number * factor)
    return number * int(factor) if factor >= 1 else number // round(1 / factor)


def _one_by_one(column: pa.Array, read: Callable[[int | float | str], int]) -> pa.Array:
    times: list[int | None] = []
    for row, item in enumerate(column.to_pylist()):
        try:
            times.append(None if item is None else read(item))
        except (ValueError, OverflowError) as problem:
            raise CellError(row, str(problem)) from problem
    return pa.array(times, pa.int64())


def _is_text(column: pa.Array) -> bool:
    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))
