"""CSV as text: no value is taken for anything before the stream says what it is."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.csv

from tidemill.replay.file_rows import DataSetError, FileRows, not_utf8, open_text

_LONGEST_FIELD = 2**31 - 1
_BLOCK_BYTES = 1 << 20
LONGEST_ROW_BYTES = 64 << 20
"""Of a row in CSV, which Arrow reads as part of one block."""
_STRADDLES = "straddling object"
_REPLACED = "\ufffd"


@dataclass(frozen=True, slots=True)
class CsvDialect:
    """How a file is written: what separates its columns, how its text is encoded (where no byte order mark says it), how many lines precede it.

    Attributes
    ----------
    spelling
        Returns the text (UTF-8, and the separator) with quotes as CSV has them; None: they are so.
    """

    separator: str = ","
    encoding: str = "utf-8"
    lines_before: int = 0
    spelling: Callable[[bytes, str], bytes] | None = None

    def open(self, file: Path) -> IO[bytes]:
        """Open a file as UTF-8; raises DataSetError when it is no text, csv.Error when it is not spelled so."""
        source = open_text(file, "CSV", self.encoding)
        if self.spelling is None:
            return source
        with source:
            return io.BytesIO(self.spelling(source.read(), self.separator))


_PLAIN = CsvDialect()


def read_csv(file: Path, nulls: Sequence[str], dialect: CsvDialect = _PLAIN) -> FileRows:
    """Read a file with a header line; every column is text.

    Parameters
    ----------
    nulls
        Texts that mean that there is no value, besides the empty cell; a quoted cell is always a text.
    dialect
        By default commas and UTF-8: an application's files are not guessed at.

    Raises
    ------
    DataSetError
        No header, two columns of one name, a row with more or fewer values, a quote that is not closed, text that is not UTF-8, a row of more than
        64 MB; names the line.
    """
    header = _header(file, dialect)
    options = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(header, pa.string()), null_values=["", *nulls], strings_can_be_null=True, quoted_strings_can_be_null=False
    )
    try:
        _check_quotes(file, dialect)
        table = _table(file, dialect, options)
    except (OSError, EOFError) as error:
        # Arrow's own errors are none of these: the file cannot be read at all.
        raise DataSetError(f"{file}: expected CSV: {error}") from error
    except pa.ArrowException as error:
        if next(islice(records_of(file, dialect), 1, None), None) is None:
            # A header whose line does not end, which Arrow takes for no block of a file at all.
            return FileRows(pa.table({name: pa.array([], pa.string()) for name in header}), lambda row: f"{file}:{row}")
        strange = not_utf8(file) if dialect.encoding == "utf-8" else None
        if strange is None and _STRADDLES in str(error):
            strange = _endless(file, dialect)
        raise strange or _ragged(file, len(header), dialect) or DataSetError(f"{file}: expected CSV: {error}") from error
    return FileRows(table, lambda row: f"{file}:{_line(file, row, dialect)}")


def _table(file: Path, dialect: CsvDialect, options: pyarrow.csv.ConvertOptions) -> pa.Table:
    """Return the rows as Arrow reads them: in small blocks, or if some row is longer than one, in blocks of the longest row."""
    parse = pyarrow.csv.ParseOptions(delimiter=dialect.separator, newlines_in_values=True)
    for block_bytes in (_BLOCK_BYTES, LONGEST_ROW_BYTES):
        # Threads that Arrow has just started abort a process that ends at once, as one with a file to refuse does.
        alone = pyarrow.csv.ReadOptions(use_threads=False, skip_rows=dialect.lines_before, block_size=block_bytes)
        try:
            with dialect.open(file) as source:
                return pyarrow.csv.read_csv(source, alone, parse_options=parse, convert_options=options)
        except pa.ArrowInvalid as error:
            if _STRADDLES not in str(error) or block_bytes == LONGEST_ROW_BYTES:
                raise
    raise AssertionError("the last block size returns or raises")


def _endless(file: Path, dialect: CsvDialect) -> DataSetError | None:
    for number, record in records_of(file, dialect):
        if (size := sum(len(value.encode()) + 1 for value in record)) > LONGEST_ROW_BYTES:
            return DataSetError(f"{file}:{number}: expected a row of at most {LONGEST_ROW_BYTES:,} bytes, found one of {size:,}")
    return None


def _header(file: Path, dialect: CsvDialect) -> list[str]:
    try:
        _, header = next(records_of(file, dialect), (0, []))
    except (OSError, EOFError) as error:
        raise DataSetError(f"{file}: expected CSV: {error}") from error
    if not header:
        raise DataSetError(f"{file}: expected a header line with the names of the columns, found an empty file")
    if len(header) == 1 and (other := next((mark for mark in (";", "\t", "|") if mark in header[0]), None)):
        raise DataSetError(f"{file}:1: expected columns separated by commas, found {header[0]!r}, which seems to be separated by {other!r}")
    if any(_REPLACED in name for name in header) and (strange := not_utf8(file)):
        raise strange
    for name in header:
        places = [str(i) for i, other_name in enumerate(header, 1) if other_name == name]
        if len(places) > 1:
            where = ", ".join(places)
            raise DataSetError(f"{file}:1: expected a name of its own for every column, found {name!r} {len(places)} times: columns {where}")
    return header


def _check_quotes(file: Path, dialect: CsvDialect) -> None:
    """Refuse a quote that nothing closes, which would take the rest of the file for one value, and text behind one that is closed."""
    with dialect.open(file) as source:
        if not any(b'"' in block for block in iter(lambda: source.read(_BLOCK_BYTES), b"")):
            return
    csv.field_size_limit(_LONGEST_FIELD)
    with dialect.open(file) as source:
        reader = csv.reader(io.TextIOWrapper(source, "utf-8", errors="replace", newline=""), delimiter=dialect.separator, strict=True)
        begin = 1
        try:
            for _ in reader:
                begin = reader.line_num + 1
        except csv.Error as error:
            what = "a quote that is never closed" if "unexpected end" in str(error) else str(error)
            raise DataSetError(f'{file}:{begin}: expected a quoted value to end with a quote (one within it is written ""), found {what}') from error


def _ragged(file: Path, width: int, dialect: CsvDialect) -> DataSetError | None:
    for number, record in records_of(file, dialect):
        if len(record) != width:
            text = dialect.separator.join(record)[:120]
            return DataSetError(f"{file}:{number}: expected {width} values as in the header, found {len(record)}: {text!r}")
    return None


def _line(file: Path, row: int, dialect: CsvDialect) -> int:
    """Return the line in which a row begins; values may hold line ends."""
    return next((number for i, (number, _) in enumerate(records_of(file, dialect)) if i == row + 1), 0)


def records_of(file: Path, dialect: CsvDialect) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line and the values of every record that is not empty, header included."""
    csv.field_size_limit(_LONGEST_FIELD)
    with dialect.open(file) as source:
        text = io.TextIOWrapper(source, "utf-8", errors="replace", newline="")
        for _ in range(dialect.lines_before):
            text.readline()
        reader = csv.reader(text, delimiter=dialect.separator)
        begin = dialect.lines_before + 1
        for record in reader:
            if record:
                yield begin, record
            begin = dialect.lines_before + reader.line_num + 1
