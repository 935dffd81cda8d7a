"""Gives a file's columns the stream's types: a value keeps its meaning, digit for digit, or is refused by row."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.shared.application.plan import StreamPlan
from tidemill.shared.avro.json_values import UUID, time_of_day
from tidemill.shared.avro.key_text import key_texts
from tidemill.shared.avro.schema_tree import AvroType
from tidemill.shared.avro.times import CellError, read_times

TIME = pa.timestamp("ms")
_MICROS = pa.timestamp("us")
_EXACT = 2.0**53
_WHOLE = r"^\s*[+-]?\d+(\.0*)?\s*$"


def typed_column(stream: StreamPlan, field: pa.Field, declared: AvroType, column: pa.ChunkedArray) -> pa.Array:
    """Return a column as the stream's schema has it.

    Parameters
    ----------
    declared
        Its Avro type, without null.

    Raises
    ------
    CellError
        Row, what was expected, what came.
    """
    whole = _plain(column)
    made = _typed(whole, field.type, stream.times.get(field.name), every=field.name == stream.event_time)
    made = _declared(made, declared)
    if not field.nullable and made.null_count:
        row = pc.index(made.is_null(), True).as_py()
        raise CellError(row, 'expected a value, found none (an empty text is written as "")')
    return made


def _declared(column: pa.Array, declared: AvroType) -> pa.Array:
    """Hold values against what their Avro type asks for besides their Arrow type."""
    if declared.kind == "enum":
        strange = pc.and_(pc.invert(pc.is_in(column, pa.array(declared.symbols, pa.string()))), column.is_valid())
        if declared.default is not None:
            # As a reader whose enum has a default takes an unknown symbol of any writer.
            return pc.if_else(strange, declared.default, column)
        _first(column, strange, f"expected one of {', '.join(declared.symbols)}")
    elif declared.logical == "uuid":
        strange = pc.invert(pc.match_substring_regex(column, f"^{UUID.pattern}$"))
        _first(column, strange, "expected a uuid such as 123e4567-e89b-12d3-a456-426614174000")
        return pc.ascii_lower(column)
    elif declared.kind == "fixed" and not declared.logical:
        _first(column, pc.not_equal(pc.binary_length(column), declared.size), f"expected {declared.size} bytes")
    return column


def time_column(column: pa.ChunkedArray, declared: str | None) -> pa.Array:
    """Return the times of a column that is not the stream's own; raises CellError."""
    return _typed(_plain(column), TIME, declared, every=True)


def _typed(column: pa.Array, kind: pa.DataType, declared: str | None, *, every: bool) -> pa.Array:
    came = column.type
    text = pa.types.is_string(came)
    if pa.types.is_temporal(kind) and not pa.types.is_time(kind) and not pa.types.is_duration(kind):
        if pa.types.is_timestamp(came) or pa.types.is_date(came):
            return _instants(column, kind)
        # A date is written as YYYY-MM-DD or as it is declared; numbers of days are not guessed.
        if text or pa.types.is_integer(came) or pa.types.is_floating(came):
            unit = "microseconds" if kind == _MICROS else "milliseconds"
            return _cast(read_times(column, declared, every=every, unit=unit), kind)
    if pa.types.is_integer(kind):
        return _integers(column, kind)
    if pa.types.is_string(kind) and pa.types.is_floating(came):
        return _digits(column)
    if text and pa.types.is_time(kind):
        return _times_of_day(column, kind)
    if text and (pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind)):
        return _cast(pc.utf8_trim_whitespace(column), kind)
    if pa.types.is_boolean(kind) != pa.types.is_boolean(came) and not text and not pa.types.is_null(came):
        raise CellError(0, f"expected {kind}, found a column of {came}")
    return _cast(column, kind)


def _plain(column: pa.ChunkedArray) -> pa.Array:
    """Return one array without dictionary or views, with 32-bit offsets where they suffice."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.concat_arrays(whole.chunks)
    if pa.types.is_dictionary(whole.type):
        whole = whole.dictionary_decode()
    if pa.types.is_large_string(whole.type) or whole.type == pa.string_view():
        whole = whole.cast(pa.string())
    return whole


def _instants(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return times in UTC without a zone; Arrow keeps instants in UTC, so only the zone's name goes. What is finer than a millisecond is cut off."""
    if pa.types.is_date(column.type):
        return _cast(column, kind)
    if column.type.tz is not None:
        column = column.cast(pa.timestamp(column.type.unit, "UTC")).cast(pa.timestamp(column.type.unit))
    if pa.types.is_date(kind):
        return column.cast(kind, safe=False)
    coarse = column.type.unit == "s"
    return _cast(column, kind) if coarse else column.cast(kind, safe=False)


def _times_of_day(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return times of day; of numbers nobody knows the unit."""
    logical, width = ("time-millis", pa.int32()) if pa.types.is_time32(kind) else ("time-micros", pa.int64())
    units: list[int | None] = []
    for row, cell in enumerate(column.to_pylist()):
        try:
            if cell is not None and ":" not in cell:
                raise ValueError("a number")
            units.append(None if cell is None else time_of_day(cell.strip(), logical, "a cell"))
        except ValueError as error:
            raise CellError(row, f"expected a time of day without an offset, such as 10:30 or 10:30:00.5, found {cell!r}") from error
    return pa.array(units, width).cast(kind)


def _integers(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(column.type):
        _first(column, pc.invert(pc.match_substring_regex(column, _WHOLE)), f"expected {kind}")
        column = pc.utf8_trim_whitespace(column)
        column = pc.utf8_rtrim(pc.replace_substring_regex(column, r"\.0*$", ""), " ")
        return _cast(pc.replace_substring_regex(column, r"^\+", ""), kind)
    if pa.types.is_floating(column.type):
        _refuse_inexact(column, f"expected {kind}")
    elif not (pa.types.is_integer(column.type) or pa.types.is_decimal(column.type) or pa.types.is_null(column.type)):
        raise CellError(0, f"expected {kind}, found a column of {column.type}")
    return _cast(column, kind)


def _digits(column: pa.Array) -> pa.Array:
    """Return numbers as text with all their digits: pandas makes 1234567890123.0 of an id when one is missing."""
    _refuse_inexact(column, "expected text, or a number that is a whole one", fractions=True)
    return key_texts(column)


def _refuse_inexact(column: pa.Array, expected: str, *, fractions: bool = False) -> None:
    """Refuse whole numbers that a double cannot hold exactly: their last digits are gone already."""
    values = np.asarray(pc.fill_null(column, 0).cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    bad = (np.abs(values) > _EXACT) | (~np.isfinite(values) | (values != np.trunc(values)) if not fractions else False)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        lost = "; a floating-point number so large has lost digits: write the column as text or as integers" if abs(values[row]) > _EXACT else ""
        raise CellError(row, f"{expected}, found {float(values[row])!r}{lost}")


def _first(column: pa.Array, bad: pa.Array, expected: str) -> None:
    row = pc.index(pc.fill_null(bad, False), True).as_py()
    if row >= 0:
        raise CellError(row, f"{expected}, found {column[row].as_py()!r}")


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return column.cast(kind)
    except pa.ArrowNotImplementedError as error:
        raise CellError(0, f"expected {kind}, which a column of {column.type} cannot hold; use JSON lines or Parquet") from error
    except pa.ArrowException as error:
        row = _first_failure(column, lambda part: part.cast(kind))
        raise CellError(row, f"expected {kind}, found {column[row].as_py()!r}") from error


def _first_failure(column: pa.Array, make: Callable[[pa.Array], object]) -> int:
    """Return the first row for which `make` fails; it fails for the column."""
    low, high = 0, len(column)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            make(column.slice(low, middle - low))
            low = middle
        except pa.ArrowException:
            high = middle
    return low
