"""Quoted values as some programs write them: a space before the quote, single quotes, a backslash before a quote within."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import polars as pl

from tidemill.init.names import given_names
from tidemill.replay.csv_file import CsvDialect, read_csv
from tidemill.replay.file_rows import DataSetError

Spelling = Callable[[bytes, str], bytes]
_SPACE_AND_QUOTE = r'^ +".*" *$'
_SINGLE_QUOTES = r"^'.*'$"
_ESCAPED = re.compile(rb'\\(["\\])')


def read_spelled(file: Path, dialect: CsvDialect) -> tuple[pl.DataFrame, Callable[[int], str], Sequence[str]]:
    """Return the columns, the place of a row, and how quotes are written where CSV has them otherwise.

    Raises
    ------
    DataSetError
        As `read_csv`: in whatever way its quotes are read, it is no table.
    """

    def read(how: CsvDialect) -> tuple[pl.DataFrame, Callable[[int], str]]:
        rows = read_csv(file, (), how)
        return pl.DataFrame(pl.from_arrow(rows.columns.rename_columns(given_names(rows.columns.column_names)))), rows.place

    refusal: DataSetError | None = None
    others: Sequence[Spelling] = tuple(_SPELLINGS)
    try:
        frame, place = read(dialect)
        spelling = _left_quotes(frame)
        others = () if spelling is None else (spelling,)
    except DataSetError as problem:
        refusal = problem
    for spelling in others:
        with suppress(DataSetError, csv.Error):
            return *read(replace(dialect, spelling=spelling)), (_SPELLINGS[spelling],)
    if refusal is not None:
        raise refusal
    return frame, place, ()


def _without_spaces(content: bytes, separator: str) -> bytes:
    """Leave out spaces between a separator and the value behind it."""
    _require(re.escape(separator) + ' +"', content)
    return _written(csv.reader(_lines(content), delimiter=separator, skipinitialspace=True, strict=True), separator)


def _without_single_quotes(content: bytes, separator: str) -> bytes:
    """Put values that stand in single quotes into double ones."""
    _require(f"(^|{re.escape(separator)})'", content)
    return _written(csv.reader(_lines(content), delimiter=separator, quotechar="'", strict=True), separator)


def _without_backslashes(content: bytes, separator: str) -> bytes:
    r"""Write ``""`` for ``\"``, and one backslash for two; others stay, as Spark does not escape them."""
    _require(r'\\"', content)
    return _ESCAPED.sub(lambda match: b'""' if match[1] == b'"' else b"\\", content)


_SPELLINGS: dict[Spelling, str] = {
    _without_spaces: "spaces before values are left out",
    _without_backslashes: 'a backslash before a quote (\\") is left out',
    _without_single_quotes: "values stand in single quotes",
}


def _left_quotes(frame: pl.DataFrame) -> Spelling | None:
    """Return how the values of a table are spelled in which quotes have been taken for a part of the text; None where there are none."""
    for values in frame:
        given = values.drop_nulls()
        if bool(given.str.contains(_SPACE_AND_QUOTE).any()):
            return _without_spaces
        if len(given) > 1 and bool(given.str.contains(_SINGLE_QUOTES).all()):
            return _without_single_quotes
    return None


def _require(pattern: str, content: bytes) -> None:
    """Raise csv.Error where there is nothing of a spelling."""
    if re.search(pattern.encode(), content, re.MULTILINE) is None:
        raise csv.Error("not spelled so")


def _lines(content: bytes) -> io.StringIO:
    return io.StringIO(content.decode("utf-8", "replace"), newline="")


def _written(records: Iterable[list[str]], separator: str) -> bytes:
    """Return records as CSV has them; an empty line stays one, so that a row's place is that of the file."""
    written = io.StringIO(newline="")
    csv.writer(written, delimiter=separator, lineterminator="\n").writerows(records)
    return written.getvalue().encode()
