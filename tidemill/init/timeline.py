"""When each row was asked and when its label became known: columns of the table, or the row number as time."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tidemill.init.column import InputColumn
from tidemill.init.roles import Roles
from tidemill.init.time_formats import numbers_as_times, texts_as_times
from tidemill.replay.file_rows import DataSetError
from tidemill.shared.application.values import DURATION_PATTERN, LONGEST_MS, UNITS_MS, parse_duration
from tidemill.shared.avro.times import instant_text

DAY_MS = UNITS_MS["d"]
_ROWS = re.compile(r"^\d+$")
_MOST_DIGITS = 9
_SPAN_DAYS = 60
_STEPS_MS = tuple(
    count * UNITS_MS[unit]
    for count, unit in (
        (1, "s"), (2, "s"), (5, "s"), (10, "s"), (15, "s"), (30, "s"), (1, "m"), (2, "m"), (5, "m"), (10, "m"), (15, "m"), (20, "m"), (30, "m"),
        (1, "h"), (2, "h"), (3, "h"), (4, "h"), (6, "h"), (12, "h"),
    )
)  # fmt: skip
_FARTHEST_MS = 400 * DAY_MS


@dataclass(frozen=True, slots=True)
class LabelDelay:
    """How long after its request a label is known: a duration, or so many rows later.

    Attributes
    ----------
    duration_ms, rows
        One of the two is not None.
    """

    duration_ms: int | None = None
    rows: int | None = None

    @classmethod
    def parse(cls, text: str) -> "LabelDelay":
        """Read ``36h`` or ``500`` (rows).

        >>> LabelDelay.parse("500"), LabelDelay.parse("36h")
        (LabelDelay(duration_ms=None, rows=500), LabelDelay(duration_ms=129600000, rows=None))
        """
        if _ROWS.match(text.strip()):
            if len(text.strip()) > _MOST_DIGITS:
                raise ValueError(f"at most {10**_MOST_DIGITS - 1:,} rows, found {text.strip()[:40]!r}")
            return cls(rows=int(text))
        try:
            return cls(duration_ms=parse_duration(text.strip()))
        except ValueError as problem:
            if re.match(DURATION_PATTERN, text.strip()):
                raise
            raise ValueError(f"a duration such as 36h, or a number of rows such as 500, found {text!r}") from problem


@dataclass(frozen=True, slots=True)
class Timeline:
    """When everything happened, of the rows that stay, in order of time.

    Attributes
    ----------
    rows : int64 array, shape (n,)
        Places in the table, in order of time; rows without a time are left out.
    asked_ms, labelled_ms : int64 arrays, shape (n,)
        When each of them was asked and when its label is known, where it has one.
    unknown : bool array, shape (n,)
        Rows whose label has no time: it is not told.
    step_ms
        What one row is, where the row number is time; None where a column says the time.
    facts
        What was found, for the table that is printed.
    """

    rows: NDArray[np.int64]
    asked_ms: NDArray[np.int64]
    labelled_ms: NDArray[np.int64]
    unknown: NDArray[np.bool_]
    step_ms: int | None
    facts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @property
    def span_ms(self) -> int:
        """From the first to the last request, without the odd hundredth at each end."""
        low, high = np.quantile(self.asked_ms, [0.005, 0.995]) if len(self.asked_ms) else (0.0, 0.0)
        return max(1, int(high - low))

    @property
    def delays_ms(self) -> NDArray[np.int64]:
        """From request to label, of rows that have one; shape (m,)."""
        return (self.labelled_ms - self.asked_ms)[~self.unknown]


def timeline(
    columns: Mapping[str, InputColumn], roles: Roles, delay: LabelDelay | None, formats: str | None, now_ms: int, first_ms: int | None = None
) -> Timeline:
    """Put the rows on a clock.

    Parameters
    ----------
    formats
        How the columns of times are written; None: found in their values.
    now_ms
        What time it is: nothing of a replay may lie far beyond, and rows that are time end before.
    first_ms
        When the first row is, where the row number is time; None: so that the last is yesterday.

    Raises
    ------
    DataSetError
        A column of times holds something else, or times that no run takes.
    """
    count = len(columns[roles.label])
    known = columns[roles.label].values.is_not_null().to_numpy()
    if roles.time is None:
        if roles.label_time is not None:
            raise DataSetError(f"--label-time {roles.label_time!r}: expected --time as well: the label's time is held against the request's")
        return _by_row(count, known, delay, now_ms, first_ms)
    times = _times(columns[roles.time], formats)
    missing = times.is_null().to_numpy()
    warnings = []
    if missing.all():
        raise DataSetError(f"column {roles.time!r}: expected times, found no value in {count:,} rows")
    if missing.any():
        warnings.append(f"{int(missing.sum()):,} rows have no time in {roles.time!r} and are left out")
    asked = times.fill_null(0).to_numpy().astype(np.int64)
    _refuse_odd(roles.time, asked, missing, now_ms)
    kept = np.flatnonzero(~missing)
    back = int((np.diff(asked[kept]) < 0).sum())
    order = kept[np.argsort(asked[kept], kind="stable")]
    if back:
        warnings.append(f"the times in {roles.time!r} go backwards {back:,} times: rows are taken in order of time, not in that of the file")
    asked = asked[order]
    facts = [f"{roles.time}: {instant_text(int(asked[0]))} to {instant_text(int(asked[-1]))}"]
    if roles.label_time is None:
        labelled = _delayed(asked, delay, None)
        facts.append(f"labels: {_delay_words(delay)}")
        return Timeline(order, asked, labelled, np.zeros(len(order), np.bool_), None, tuple(facts), tuple(warnings))
    told, far = _without_far(roles.label_time, _times(columns[roles.label_time], formats), now_ms)
    warnings += far
    unknown = told.is_null().to_numpy()[order]
    labelled = np.where(unknown, asked, told.fill_null(0).to_numpy().astype(np.int64)[order])
    has = known[order]
    if int((unknown & has).sum()):
        warnings.append(f"{int((unknown & has).sum()):,} rows have a label but no time in {roles.label_time!r}: those labels are left out")
    early = int(((labelled < asked) & has).sum())
    if early:
        warnings.append(
            f"{early:,} labels were known before their request ({roles.label_time!r} before {roles.time!r}): a leak, or the wrong columns?"
        )
    facts.append(f"labels: {roles.label_time}")
    return Timeline(order, asked, np.maximum(labelled, asked), unknown, None, tuple(facts), tuple(warnings))


def _without_far(name: str, told: pl.Series, now_ms: int) -> tuple[pl.Series, list[str]]:
    """Return when labels became known, without times such as the year 9999, which many write for what is not known yet; and a warning of them."""
    far = (told > now_ms + _FARTHEST_MS).fill_null(False)
    if not bool(far.any()):
        return told, []
    row = int(far.arg_true()[0])
    what = f"found {instant_text(int(told[row]))} in row {row + 1} ({int(far.sum()):,} such rows)"
    if int(far.sum()) + told.null_count() == len(told):
        raise DataSetError(f"column {name!r}: expected times before the end of next year, when labels became known, {what}; name another column")
    return told.set(far, None), [f"--label-time {name!r}: expected times before the end of next year, {what}: those labels are not known yet"]


def _by_row(count: int, known: NDArray[np.bool_], delay: LabelDelay | None, now_ms: int, first_ms: int | None) -> Timeline:
    """Let the row number be time, at a pace that makes about two months of the table: policies, blocks and tests count days."""
    step = next((step for step in _STEPS_MS if step * count >= _SPAN_DAYS * DAY_MS), _STEPS_MS[-1])
    first = now_ms // DAY_MS * DAY_MS - (count * step // DAY_MS + 1) * DAY_MS if first_ms is None else first_ms
    asked = first + np.arange(count, dtype=np.int64) * step
    facts = (
        f"row number ({instant_text(int(asked[0]))} to {instant_text(int(asked[-1]))}, a row every {words(step)})",
        f"labels: {_delay_words(delay)}",
    )
    return Timeline(np.arange(count, dtype=np.int64), asked, _delayed(asked, delay, step), np.zeros(count, np.bool_), step, facts)


def _delayed(asked: NDArray[np.int64], delay: LabelDelay | None, step: int | None) -> NDArray[np.int64]:
    """Return when labels are known: a millisecond after the request if nothing is said, so that no request of the same instant knows it."""
    if delay is None or (delay.rows is None and not delay.duration_ms) or delay.rows == 0:
        return asked + 1
    if delay.rows is None:
        return asked + int(delay.duration_ms or 0)
    count = len(asked)
    usual = step or max(1, int((asked[-1] - asked[0]) // max(1, count - 1)))
    later = np.arange(count) + delay.rows
    inside = np.minimum(later, count - 1)
    labelled = np.asarray(np.maximum(asked[inside] + (later - inside) * usual, asked + 1), np.int64)
    if (longest := int((labelled - asked).max())) > LONGEST_MS:
        raise DataSetError(f"--label-delay {delay.rows}: expected labels within a century of their rows, found {longest // DAY_MS:,} days")
    return labelled


def _delay_words(delay: LabelDelay | None) -> str:
    if delay is None:
        return "known at once (say --label-delay if they come later)"
    return f"{delay.rows:,} rows after the request" if delay.rows is not None else f"{words(int(delay.duration_ms or 0))} after the request"


def _times(column: InputColumn, declared: str | None) -> pl.Series:
    """Return a column's times as milliseconds since the epoch."""
    values = column.values
    if not column.nulls < len(column):
        return values.cast(pl.Int64, strict=False)
    if column.kind in ("integer", "number"):
        values, _ = numbers_as_times(column.name, values, declared)
    elif column.kind == "text":
        values = texts_as_times(column.name, values, declared)
    elif column.kind not in ("date", "time"):
        raise DataSetError(f"column {column.name!r}: expected times, found {values.dtype}")
    return values.cast(pl.Datetime("ms")).cast(pl.Int64)


def _refuse_odd(name: str, asked: NDArray[np.int64], missing: NDArray[np.bool_], now_ms: int) -> None:
    early, late = (asked < 0) & ~missing, (asked > now_ms + _FARTHEST_MS) & ~missing
    for odd, expected in ((early, "in 1970 or later, as Kafka's timestamps are"), (late, "before the end of next year")):
        if odd.any():
            row = int(np.flatnonzero(odd)[0])
            raise DataSetError(
                f"column {name!r}, row {row + 1}: expected times {expected}, found {instant_text(int(asked[row]))} ({int(odd.sum()):,} such rows);"
                " leave those rows out of the file, or leave --time out: then the row number is time"
            )


def words(duration_ms: int) -> str:
    """Return a duration as the application file writes it.

    >>> words(5_400_000), words(86_400_000), words(1_500)
    ('90m', '1d', '1500ms')
    """
    return next((f"{duration_ms // size}{unit}" for unit, size in reversed(UNITS_MS.items()) if duration_ms % size == 0), f"{duration_ms}ms")
