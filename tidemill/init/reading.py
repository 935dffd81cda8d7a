"""Any file with a table in it: CSV of every dialect, ARFF, JSON lines, Parquet. What is guessed about the file is said."""

import csv
import gzip
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet

from tidemill.init.arff_file import read_arff
from tidemill.init.csv_spellings import read_spelled
from tidemill.init.names import given_names
from tidemill.init.raw_table import RawTable
from tidemill.replay.csv_file import CsvDialect, records_of
from tidemill.replay.file_rows import DataSetError, not_utf8
from tidemill.replay.json_file import lines_of
from tidemill.shared.avro.json_text import json_parser

_SEPARATORS = (",", ";", "\t", "|")
_LOOKED_AT = 200
_NAMES = {";": "';'", "\t": "tabs", "|": "'|'", ",": "commas"}
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_OTHERS = {
    b"PK\x03\x04": "a ZIP archive, as Excel's workbooks are: save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old document of Excel's or Word's: save the sheet as CSV",
    b"ORC": "ORC",
    b"ARROW1": "Arrow's own format (Feather): write it as Parquet",
    b"Obj\x01": "an Avro file: write its records as JSON lines or Parquet",
    b"\x89HDF": "HDF5",
    b"SQLite": "an SQLite database",
    b"%PDF": "a PDF",
    b"\x28\xb5\x2f\xfd": "a file packed by zstd: unpack it, or pack it by gzip",
    b"BZh": "a file packed by bzip2: unpack it, or pack it by gzip",
    b"\xfd7zXZ": "a file packed by xz: unpack it, or pack it by gzip",
    b"7z\xbc\xaf": "a 7z archive: unpack it",
}
_FORMS = "CSV, ARFF, JSON lines or Parquet"
_JSON, _ARFF = (".jsonl", ".ndjson", ".json"), (".arff",)
_PARSE = json_parser(constants=True)


def read_table(file: Path, separator: str | None = None) -> RawTable:
    """Read a file; its format is told by its name and its first bytes.

    Parameters
    ----------
    separator
        Of the columns of a CSV file; None: found in the file.

    Raises
    ------
    DataSetError
        It is no table, cannot be read, or has no rows: says where, what was expected, what came.
    """
    if file.is_dir():
        raise DataSetError(f"{file}: expected a file with a table ({_FORMS}), found a folder")
    if not file.is_file():
        raise DataSetError(f"{file}: expected a file with a table ({_FORMS}), found none")
    head = _head(file)
    table = _read(file, head, separator)
    if not table.frame.width:
        raise DataSetError(f"{file}: expected columns, found none")
    if not table.frame.height:
        raise DataSetError(f"{file}: expected at least one row, found the columns {', '.join(table.frame.columns[:8])} and no row")
    return table


def _read(file: Path, head: bytes, separator: str | None) -> RawTable:
    name = file.name.lower().removesuffix(".gz")
    if head.startswith(_PARQUET):
        return _parquet(file)
    for magic, what in _OTHERS.items():
        if head.startswith(magic):
            raise DataSetError(f"{file}: expected {_FORMS}, found {what}")
    if not head:
        raise DataSetError(f"{file}: expected a table ({_FORMS}), found an empty file")
    wide = head[:2] in (b"\xff\xfe", b"\xfe\xff")
    if not wide and b"\0" in head:
        place = head.index(b"\0")
        if not head[1::2].strip(b"\0") or not head[::2].strip(b"\0"):
            raise DataSetError(
                f"{file}: expected UTF-8, or UTF-16 with a byte order mark, found what seems to be UTF-16 without one: save it as UTF-8"
            )
        raise DataSetError(
            f"{file}: expected {_FORMS}, found bytes that are no text, a zero at byte {place + 1:,} ({head[max(0, place - 8) : place + 8]!r})"
        )
    encoding, notes = ("utf-8", []) if wide else _encoding(file)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not wide and re.match(rb"<(!doctype|html|\?xml|table)", text, re.IGNORECASE):
        raise DataSetError(f"{file}: expected {_FORMS}, found HTML or XML ({text[:40].decode('utf-8', 'replace')!r})")
    if name.endswith(_ARFF) or (not name.endswith(_JSON) and text[:1] in (b"@", b"%") and b"@relation" in text.lower()):
        table = read_arff(file, encoding)
    elif name.endswith(_JSON) or text[:1] in (b"{", b"["):
        table = _json(file)
    elif name.endswith(".parquet"):
        raise DataSetError(f"{file}: expected Parquet, as its name says, found something else")
    else:
        table = _csv(file, encoding, separator)
    names = dict(zip(table.frame.columns, given_names(table.frame.columns), strict=True))
    return RawTable(table.file, table.form, table.frame.rename(names), table.place, table.declared, (*notes, *table.notes))


def _head(file: Path) -> bytes:
    try:
        with file.open("rb") as source:
            head = source.read(4096)
        if head.startswith(_GZIP):
            with gzip.open(file) as source:
                head = source.read(4096)
    except (OSError, EOFError) as error:
        raise DataSetError(f"{file}: cannot be read: {error}") from error
    return head


def _encoding(file: Path) -> tuple[str, list[str]]:
    try:
        if not_utf8(file) is None:
            return "utf-8", []
    except (OSError, EOFError) as error:
        raise DataSetError(f"{file}: cannot be read: {error}") from error
    return "cp1252", ["it is not UTF-8 and was read as Windows-1252 (Latin-1): look at its umlauts and accents"]


def _csv(file: Path, encoding: str, separator: str | None) -> RawTable:
    try:
        told = _told_separator(file, encoding)
        mark = separator or told or _separator(file, encoding)
        frame, place, notes = read_spelled(file, CsvDialect(mark, encoding, int(told is not None)))
    except UnicodeDecodeError:
        return _csv(file, "latin-1", separator)
    except csv.Error as error:
        raise DataSetError(f"{file}: expected CSV: {error}") from error
    if len({name.strip() for name in frame.columns}) == frame.width:
        frame = frame.rename({name: name.strip() for name in frame.columns})
    return RawTable(file, f"CSV separated by {_NAMES.get(mark, repr(mark))}", frame, place, notes=(*notes, *_about_header(frame)))


def _about_header(frame: pl.DataFrame) -> list[str]:
    """Warn of a first line that looks like one of values: half of the names are numbers, and they do not count something (years, wavelengths)."""
    numbers = [name for name in frame.columns if re.fullmatch(r"[+-]?\d+([.,]\d+)?", name)]
    counted = [float(name.replace(",", ".")) for name in numbers]
    if 2 * len(numbers) < frame.width or counted == sorted(counted):
        return []
    return [f"the first line has the names of the columns, and {numbers[0]!r} is one of them: if it is a row, write a line with names above it"]


def _told_separator(file: Path, encoding: str) -> str | None:
    """Return the mark that a first line such as ``sep=;`` tells Excel; None where there is none."""
    _, first = next(records_of(file, CsvDialect("\x1f", encoding)), (1, [""]))
    told = re.fullmatch(r"sep=(.)", first[0].strip(), re.IGNORECASE)
    return told[1] if told else None


def _separator(file: Path, encoding: str) -> str:
    """Return the mark that parts the first lines into the same number of columns, the most of them; a comma when there is one column."""
    best, most = ",", (0.0, 1)
    for mark in _SEPARATORS:
        widths = Counter[int]()
        for i, (_, record) in enumerate(records_of(file, CsvDialect(mark, encoding))):
            if i >= _LOOKED_AT:
                break
            widths[len(record)] += 1
        if widths:
            width, count = widths.most_common(1)[0]
            score = count / widths.total(), width
            if width > 1 and score > most:
                best, most = mark, score
    return best


def _json(file: Path) -> RawTable:
    rows: list[dict[str, Any]] = []
    places: list[int] = []
    lines = lines_of(file)
    whole = b"\n".join(lines).strip()
    if whole.startswith(b"["):
        rows, places = _json_array(file, whole)
        word = "row"
    else:
        word = "line"
        for number, line in enumerate(lines, 1):
            if line.strip():
                rows.append(_json_object(f"{file}:{number}", line))
                places.append(number)
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _json_column(name, [row.get(name) for row in rows]) for name in names}
    return RawTable(file, "JSON lines", pl.DataFrame(columns), lambda row: f"{file}:{places[row]}" if word == "line" else f"{file}: row {row + 1}")


def _json_array(file: Path, whole: bytes) -> tuple[list[dict[str, Any]], list[int]]:
    try:
        rows = _parsed(whole)
    except ValueError as error:
        raise DataSetError(f"{file}: expected JSON lines or an array of objects: {error}") from error
    if not all(isinstance(row, dict) for row in rows):
        raise DataSetError(f"{file}: expected an array of objects, found {next(row for row in rows if not isinstance(row, dict))!r:.60} in it")
    try:
        return [_flat(row) for row in rows], list(range(1, len(rows) + 1))
    except ValueError as error:
        raise DataSetError(f"{file}: {error}") from error
    except RecursionError as error:
        raise DataSetError(f"{file}: expected objects of some hundred levels at most") from error


def _json_object(place: str, line: bytes) -> dict[str, Any]:
    try:
        row = _parsed(line)
        flat = _flat(row) if isinstance(row, dict) else None
    except (ValueError, RecursionError) as error:
        raise DataSetError(f"{place}: expected a JSON object a line: {error}") from error
    if flat is None:
        raise DataSetError(f"{place}: expected a JSON object a line, found {row!r:.60}")
    return flat


def _parsed(text: bytes) -> Any:
    """Parse JSON; ValueError for what is none, has a name twice, or has text that no file can hold (half of a pair of surrogates)."""
    try:
        value = _PARSE(text.decode(json.detect_encoding(text), "surrogatepass"))
    except RecursionError as error:
        raise ValueError("expected some hundred objects and arrays within each other at most") from error
    if b"\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = error.object[error.start : error.end]
            raise ValueError(f"expected text of Unicode, found half of a pair of surrogates ({ascii(half)[1:-1]})") from error
    return value


def _flat(row: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Return nested objects as dotted names; ValueError where two values would have one name."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        for path, inner in (_flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}).items():
            if path in flat:
                raise ValueError(f"expected a name of its own for every value, found {path!r} with a point in a name and as an object's field")
            flat[path] = inner
    return flat


def _json_column(name: str, values: list[Any]) -> pl.Series:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int} and all(-(2**63) <= value < 2**63 for value in values if value is not None):
        return pl.Series(name, values, pl.Int64)
    if int in kinds and kinds <= {int, float} and any(isinstance(value, int) and abs(value) >= 2**63 for value in values):
        # Texts keep every digit; what reads texts makes numbers of them where those are exact.
        return pl.Series(name, [None if value is None else json.dumps(value) for value in values], pl.String)
    if kinds <= {int, float}:
        return pl.Series(name, [None if value is None else _nearest(value) for value in values], pl.Float64)
    if kinds == {bool}:
        return pl.Series(name, values, pl.Boolean)
    if kinds == {list}:
        return pl.Series(name, [None if value is None else [str(item) for item in value] for value in values], pl.List(pl.String))
    return pl.Series(name, [None if value is None else value if isinstance(value, str) else json.dumps(value) for value in values], pl.String)


def _nearest(number: int | float) -> float:
    """Return a number as a double; one of more than 308 digits is infinite, as 1e400 is."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _parquet(file: Path) -> RawTable:
    try:
        table = pyarrow.parquet.ParquetFile(file).read()
        while any(pa.types.is_struct(field.type) for field in table.schema):
            table = table.flatten()
    except (pa.ArrowException, OSError) as error:
        raise DataSetError(f"{file}: expected Parquet: {error}") from error
    if len(set(table.column_names)) < table.num_columns:
        twice = next(name for name in table.column_names if table.column_names.count(name) > 1)
        raise DataSetError(f"{file}: expected a name of its own for every column, found {twice!r} more than once")
    columns = {}
    for i, name in enumerate(given_names(table.column_names)):
        column = table.column(i)
        if pa.types.is_decimal(column.type):
            column = _decimals(column)
        elif pa.types.is_timestamp(column.type) and column.type.tz is not None:
            # The instants are UTC, whatever zone they are shown in, and polars does not know every zone that a file may name.
            column = column.cast(pa.timestamp(column.type.unit))
        columns[name] = column
    frame = pl.DataFrame(pl.from_arrow(pa.table(columns)))
    return RawTable(file, "Parquet", frame, lambda row: f"{file}: row {row + 1}")


def _decimals(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return whole numbers, which databases export as decimals without a fraction, where 64 bits hold them, and else the nearest doubles."""
    if column.type.scale == 0:
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid:
            pass
    return column.cast(pa.float64())
