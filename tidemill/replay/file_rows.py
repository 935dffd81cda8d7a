"""What a file of rows holds before its columns are given the stream's types, and where each row stands."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, cast

import pyarrow as pa

from tidemill.shared.regular_file import regular_file

_GZIP = b"\x1f\x8b"
# UTF-32 first: it begins as UTF-16 does.
_WIDE = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_OTHERS = {b"PAR1": "Parquet (name it .parquet)", b"PK\x03\x04": "a ZIP archive, as Excel's workbooks are (save it as CSV)"}
_HEAD = 4


class DataSetError(ValueError):
    """A data set does not fit the application: says which file, row and column, what was expected, what came."""


@dataclass(frozen=True, slots=True)
class FileRows:
    """The rows of one file.

    Attributes
    ----------
    columns
        As the file has them: text in CSV, the stream's types in JSON, the file's own in Parquet.
    place
        File and line (file and row where there are no lines) of a row counted from 0.
    """

    columns: pa.Table
    place: Callable[[int], str]


def open_text(file: Path, kind: str, encoding: str = "utf-8") -> IO[bytes]:
    """Open a file of text as UTF-8 bytes without a byte order mark, whether it is compressed, UTF-16 or UTF-32; what it is, is in its first bytes.

    Parameters
    ----------
    encoding
        Of a text without a byte order mark.

    Raises
    ------
    DataSetError
        It is no text.
    """
    source = cast(IO[bytes], regular_file(file).open("rb"))
    if _peek(source)[:2] == _GZIP:
        source = cast(IO[bytes], gzip.open(source))
    elif file.name.endswith(".gz"):
        raise DataSetError(f"{file}: expected gzip, as its name says, found something else; name it without .gz")
    head = _peek(source)
    if head in _OTHERS:
        raise DataSetError(f"{file}: expected {kind}, found {_OTHERS[head]}")
    if wide := next((encoding for mark, encoding in _WIDE.items() if head.startswith(mark)), None):
        return _transcoded(file, source, wide)
    if head[:3] == b"\xef\xbb\xbf":
        source.read(3)
        return source
    return source if encoding == "utf-8" else _transcoded(file, source, encoding)


def not_utf8(file: Path) -> DataSetError | None:
    """Name the first line of a text that is not UTF-8; None when all are."""
    with open_text(file, "text") as source:
        for number, line in enumerate(source, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                nearby = line[max(0, error.start - 20) : error.start + 20].decode("latin-1")
                return DataSetError(
                    f"{file}:{number}: expected text in UTF-8, found the byte 0x{line[error.start]:02x} in {nearby!r} (Latin-1?);"
                    " convert the file, for example with iconv -f LATIN1 -t UTF-8"
                )
    return None


def _peek(source: IO[bytes]) -> bytes:
    return cast(BufferedReader, source).peek(_HEAD)[:_HEAD]


def _transcoded(file: Path, source: IO[bytes], encoding: str) -> IO[bytes]:
    import io

    with source:
        content = source.read()
    try:
        return io.BytesIO(content.decode(encoding).encode())
    except UnicodeError as error:
        raise DataSetError(
            f"{file}: expected text in {encoding.upper()}{', as its byte order mark says' if encoding in _WIDE.values() else ''}: {error}"
        ) from error
