"""What a column's texts are: numbers, truth values, dates, or texts; which of them mean that there is no value.

A column is of a type when every value of it is, but for a few slips among numbers. Where values can be read in two ways the column is refused by
name with the option that decides, and nothing is converted silently: each decision is a note of the column.
"""

from collections.abc import Iterable

import polars as pl

from tidemill.init.column import InputColumn, Kind
from tidemill.init.number_texts import plainly_written, seconds_of_clocks, without_unit_word
from tidemill.init.time_formats import date_format, read_dates
from tidemill.replay.file_rows import DataSetError

_NO_VALUES = ("(null)", r"\N", "#DIV/0!", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!", "0000-00-00", "0000-00-00 00:00:00")
"""As databases and spreadsheets write none, or a failed formula."""
_NULLS = (
    "NA",
    "N/A",
    "n/a",
    "NaN",
    "nan",
    "NAN",
    "null",
    "NULL",
    "Null",
    "None",
    "none",
    "?",
    "-",
    "--",
    "#N/A",
    "<NA>",
    "nil",
    ".",
    "NaT",
    *_NO_VALUES,
)
_NULLS_OF_TEXT = ("N/A", "n/a", "NaN", "nan", "null", "NULL", "?", "#N/A", "<NA>", "NaT", *_NO_VALUES)
_NA = "NA"
_TRUTH = {"true": True, "false": False}
_WHOLE = r"^[+-]?\d+$"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?[iI]nf(inity)?$"
_LEADING_ZERO = r"^[+-]?0\d"
_THOUSANDS = r"^[+-]?(\d{1,3}(,\d{3})+|\d{1,2}(,\d{2})+,\d{3})(\.\d+)?$"
_POINT_THOUSANDS = r"^[+-]?\d{1,3}(\.\d{3})+(,\d+)?$"
_TWO_POINTS = r"^[+-]?[1-9]\d{0,2}(\.\d{3}){2,}$"
_FOUR_GROUPS = r"^\d{3}(\.\d{3}){3}$"
"""All of them so are addresses of one network."""
_POINT_OR_THOUSANDS = r"^[+-]?[1-9]\d{0,2}\.\d{3}$"
DECIMAL_COMMAS = "decimal commas"
_COMMA_NUMBER = r"^[+-]?\d+,\d+([eE][+-]?\d+)?$"
_COMMA_OR_THOUSANDS = r"^[+-]?[1-9]\d{0,2},\d{3}$"
_UNITS = ("$", "€", "£", "¥", "%")
_WITH_UNIT = r"^([+-]?)\s?([$€£¥]?)\s?([+-]?[\d.,]*\d[\d.,]*)\s?([$€£¥%]?)$"
_BEYOND = "whole numbers beyond 64 bits are the nearest doubles"
_MOST_STRANGE_TIMES = 0.1
_LEAST_FOR_ODD, _MOST_ODD, _MOST_ODD_WORDS = 50, 0.02, 3


def typed(name: str, values: pl.Series, decimal: str | None = None, *, slips: bool = False, measured: bool = False) -> InputColumn:
    """Return a column with its type.

    Parameters
    ----------
    decimal
        The mark before the fraction, ``.`` or ``,``; None: found in the values.
    slips
        Among numbers, a few texts that are none count as no value; else they make texts of all.
    measured
        Numbers with the same word behind all of them, and times of day, are numbers; with `slips` they are so anyway.

    Raises
    ------
    DataSetError
        Its numbers can be read in two ways.
    """
    kind = values.dtype
    if kind == pl.String:
        return _of_text(name, values, decimal, slips, measured or slips)
    if kind in (pl.Categorical, pl.Enum):
        return InputColumn(name, values.cast(pl.String), "text")
    if kind == pl.Null:
        return InputColumn(name, values.cast(pl.String), "text")
    if kind == pl.Boolean:
        return InputColumn(name, values, "boolean")
    if kind.is_integer():
        if kind == pl.UInt64 and bool((values > 2**63 - 1).any()):
            if measured and not slips:
                return _number(name, values.cast(pl.Float64), (_BEYOND,))
            return InputColumn(name, values.cast(pl.String), "text", ("whole numbers beyond 64 bits are kept as texts",))
        return InputColumn(name, values.cast(pl.Int64), "integer")
    if kind.is_float() or kind.is_decimal():
        return _number(name, values.cast(pl.Float64), ())
    if kind == pl.Date:
        return InputColumn(name, values, "date")
    if isinstance(kind, pl.Datetime):
        return InputColumn(name, _utc(values), "time")
    if isinstance(kind, pl.Duration):
        return InputColumn(name, values.dt.total_microseconds().cast(pl.Float64) / 1e6, "number", ("durations are seconds",))
    if kind == pl.Time:
        return InputColumn(name, values.cast(pl.Int64).cast(pl.Float64) / 1e9, "number", ("times of day are seconds since midnight",))
    return InputColumn(name, values, "other")


def refuse_points_beside_commas(columns: Iterable[InputColumn], texts: pl.DataFrame) -> None:
    """Refuse a column of numbers such as 1.234 where another one has decimal commas: the point may part thousands there.

    Parameters
    ----------
    texts
        The columns as the file has them.

    Raises
    ------
    DataSetError
        Names both columns and the option that decides.
    """
    commas = next((column.name for column in columns if DECIMAL_COMMAS in column.notes), None)
    for column in columns:
        if commas is None or column.kind != "number" or texts[column.name].dtype != pl.String:
            continue
        plain = texts[column.name].str.replace_all(r"[^\d.,+-]", "")
        points = plain.filter(plain.str.contains(".", literal=True) & column.values.is_not_null())
        if len(points) and DECIMAL_COMMAS not in column.notes and _all(points, _POINT_OR_THOUSANDS):
            raise DataSetError(
                f"column {column.name!r}: expected numbers that can be read in one way, found {points[0]!r}, which may be {points[0]} or"
                f" {points[0].replace('.', '')}, as {commas!r} has decimal commas; say --decimal , if points part thousands in every column, or write"
                " the numbers of all columns alike"
            )


def slip(values: pl.Series) -> int | None:
    """Return the row of the first text that is no number where nearly all others are; None where there is none such."""
    odd = _odd(values)
    return None if odd is None else int(odd.arg_true()[0])


def _utc(values: pl.Series) -> pl.Series:
    zone = values.dtype.time_zone if isinstance(values.dtype, pl.Datetime) else None
    plain = values.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zone else values
    return plain.cast(pl.Datetime("ms"))


def _number(name: str, values: pl.Series, notes: tuple[str, ...]) -> InputColumn:
    """Return a column of numbers; what is not finite is no value, and whole ones whose gaps made them floating (pandas) stay as they are."""
    odd = int((~values.is_finite()).sum())
    if odd:
        values = pl.select(pl.when(values.is_finite()).then(values).otherwise(None)).to_series().alias(name)
        notes = (*notes, f"{odd:,} values that are NaN or infinite count as none")
    return InputColumn(name, values, "number", notes)


def _of_text(name: str, values: pl.Series, decimal: str | None, slips: bool, measured: bool) -> InputColumn:
    clean = values.str.strip_chars()
    clean = clean.set(clean == "", None)
    missing = clean.is_in(list(_NULLS)).fill_null(False)
    others = clean.set(missing, None)
    column = _plain(name, others, decimal) or (_measured(name, others, decimal) if measured else None)
    if column is None and measured and not slips and _all(others.drop_nulls(), _WHOLE):
        # Of a label they are a quantity, elsewhere names of which every digit counts.
        column = _number(name, others.cast(pl.Float64, strict=False), (_BEYOND,))
    if column is None and slips and (odd := _odd(others)) is not None:
        column = _plain(name, others.set(odd, None), decimal)
        if column is not None:
            row = int(odd.arg_true()[0])
            share = f"{int(odd.sum()):,} of {len(others) - others.null_count():,} values"
            what = f"{share} are no numbers ({others[row]!r}, row {row + 1}) and count as none"
            column = InputColumn(name, column.values, column.kind, (*column.notes, what))
    if column is None or others.null_count() == len(others):
        return _text(name, values, clean)
    marks = clean.filter(missing).unique().sort().to_list()
    notes = (f"{', '.join(map(repr, marks))} ({int(missing.sum()):,} times) is no value",) if marks else ()
    return InputColumn(name, column.values, column.kind, (*notes, *column.notes))


def _odd(values: pl.Series) -> pl.Series | None:
    """Return which values are slips among numbers: a few in a hundred at most, and few different ones; None when there are none such."""
    given = len(values) - values.null_count()
    odd = (~values.str.contains(r"^[+-]?\s?[$€£¥]?\s?[+-]?[\d.,]*\d[\d.,]*([eE][+-]?\d+)?\s?[$€£¥%]?$")).fill_null(False)
    count = int(odd.sum())
    if given < _LEAST_FOR_ODD or not 0 < count <= _MOST_ODD * given or values.filter(odd).n_unique() > _MOST_ODD_WORDS:
        return None
    return odd


def _text(name: str, values: pl.Series, clean: pl.Series) -> InputColumn:
    """Return a column of texts: few words mean no value there, and NA only where the other values are no codes of two letters, as countries are."""
    marks = [mark for mark in _NULLS_OF_TEXT if mark in set(clean.drop_nulls().unique().to_list())]
    missing = clean.is_in(marks).fill_null(False) if marks else pl.Series([False] * len(clean))
    notes = [f"{', '.join(map(repr, marks))} ({int(missing.sum()):,} times) is no value"] if marks else []
    plain = clean.set(missing, None)
    count = int((plain == _NA).sum())
    if count:
        rest = plain.filter(plain != _NA)
        if len(rest) and bool(rest.str.contains(r"^[A-Z]{2}$").all()):
            notes.append(f"'NA' ({count:,} times) is a text: the others are codes of two letters as well")
        else:
            plain = plain.set(plain == _NA, None)
            notes.append(f"'NA' ({count:,} times) is no value")
    return InputColumn(name, plain.alias(name), "text", tuple(notes))


def _plain(name: str, values: pl.Series, decimal: str | None) -> InputColumn | None:
    """Return the column if all its values are of one type that is not text."""
    given = values.drop_nulls()
    if not len(given):
        return InputColumn(name, values, "text")
    lower = given.head(1).str.to_lowercase().to_list()[0]
    if lower in _TRUTH and bool(given.str.to_lowercase().is_in(list(_TRUTH)).all()):
        return InputColumn(name, (values.str.to_lowercase() == "true").alias(name), "boolean")
    if (number := _numbers(name, values, given, decimal) or _with_unit(name, values, given, decimal)) is not None:
        return number
    plain, notes = plainly_written(values)
    if notes and (number := _numbers(name, plain, plain.drop_nulls(), decimal) or _with_unit(name, plain, plain.drop_nulls(), decimal)) is not None:
        return InputColumn(name, number.values, number.kind, (*notes, *number.notes))
    pattern = date_format(given)
    if pattern is None:
        return None
    times, kind = read_dates(values, pattern)
    if (strange := (times.is_null() & values.is_not_null())).any():
        count, row = int(strange.sum()), int(strange.arg_true()[0])
        if count > _MOST_STRANGE_TIMES * len(given):
            return None
        what = f"{count:,} of {len(given):,} values are no times of the calendar ({values[row]!r}, row {row + 1}) and count as none"
        return InputColumn(name, times.alias(name), kind, (what,))
    return InputColumn(name, times.alias(name), kind, () if pattern.iso else (f"dates are written as {pattern.text}",))


def _measured(name: str, values: pl.Series, decimal: str | None) -> InputColumn | None:
    """Read numbers behind which all have the same word, and times of day: of a label both are classes, which are spelled as they come."""
    if (seconds := seconds_of_clocks(values)) is not None:
        return InputColumn(name, seconds, "number", ("hours, minutes and seconds are seconds",))
    plain, notes = plainly_written(values)
    if (unit := without_unit_word(plain)) is None:
        return None
    numbers, word = unit
    number = _numbers(name, numbers, numbers.drop_nulls(), decimal)
    return None if number is None else InputColumn(name, number.values, number.kind, (*notes, *number.notes, f"the unit {word} is left out"))


def _with_unit(name: str, values: pl.Series, given: pl.Series, decimal: str | None) -> InputColumn | None:
    """Read numbers of which each has the same currency sign, before or after it, or a per cent sign."""
    if not _all(given, _WITH_UNIT):
        return None
    marks = [mark for mark in _UNITS if bool(given.str.contains(mark, literal=True).any())]
    if len(marks) != 1 or not bool(given.str.contains(marks[0], literal=True).all()):
        return None
    plain = values.str.replace_all(marks[0], "", literal=True).str.replace_all(r"\s", "")
    number = _numbers(name, plain, plain.drop_nulls(), decimal)
    return None if number is None else InputColumn(name, number.values, number.kind, (*number.notes, f"the sign {marks[0]} is left out"))


def _numbers(name: str, values: pl.Series, given: pl.Series, decimal: str | None) -> InputColumn | None:
    if _all(given, _NUMBER) and decimal != ",":
        if _all(given, _WHOLE):
            if bool(given.str.contains(_LEADING_ZERO).any()):
                return None
            whole = values.str.strip_chars_start("+").cast(pl.Int64, strict=False)
            return InputColumn(name, whole, "integer") if whole.null_count() == values.null_count() else None
        return _number(name, values.str.strip_chars_start("+").cast(pl.Float64, strict=False), ())
    if bool(given.str.contains(",", literal=True).any()):
        return _with_commas(name, values, given, decimal)
    points = given.filter(given.str.contains(".", literal=True))
    rest = given.filter(~given.str.contains(".", literal=True))
    # 1.234.567 can be read in one way only, and 1.234 in two.
    told = decimal == "," or (decimal is None and bool(points.str.contains(_TWO_POINTS).any()) and not _all(given, _FOUR_GROUPS))
    if told and _all(points, _POINT_THOUSANDS) and _all(rest, _NUMBER) and not bool(rest.str.contains(_LEADING_ZERO).any()):
        return _of_marks(name, values, ".", "points part thousands" if len(points) else "")
    return None


def _with_commas(name: str, values: pl.Series, given: pl.Series, decimal: str | None) -> InputColumn | None:
    """Read numbers with commas: thousands, or fractions; those that can be both are refused."""
    commas = given.filter(given.str.contains(",", literal=True))
    rest = given.filter(~given.str.contains(",", literal=True))
    thousands = _all(commas, _THOUSANDS) and _all(rest, _NUMBER)
    fractions = _all(commas, f"{_COMMA_NUMBER}|{_POINT_THOUSANDS}") and _all(rest, f"{_WHOLE}|{_POINT_THOUSANDS}")
    if decimal is not None:
        thousands, fractions = thousands and decimal == ".", fractions and decimal == ","
    if thousands and fractions and _all(commas, _COMMA_OR_THOUSANDS):
        raise DataSetError(
            f"column {name!r}: expected numbers that can be read in one way, found {commas[0]!r}, which may be"
            f" {commas[0].replace(',', '')} or {commas[0].replace(',', '.')}; say which with --decimal . (the comma parts thousands)"
            " or --decimal , (it stands before the fraction)"
        )
    if thousands:
        return _of_marks(name, values, ",", "commas part thousands")
    if fractions:
        plain = values.str.replace_all(".", "", literal=True).str.replace_all(",", ".", literal=True)
        return _number(name, plain.cast(pl.Float64, strict=False).alias(name), (DECIMAL_COMMAS,))
    return None


def _of_marks(name: str, values: pl.Series, mark: str, note: str) -> InputColumn:
    plain = values.str.replace_all(mark, "", literal=True).str.strip_chars_start("+")
    kind: Kind = "integer" if _all(plain.drop_nulls(), _WHOLE) else "number"
    return InputColumn(name, plain.cast(pl.Int64 if kind == "integer" else pl.Float64).alias(name), kind, (note,) if note else ())


def _all(values: pl.Series, pattern: str) -> bool:
    return bool(values.str.contains(pattern).all())
