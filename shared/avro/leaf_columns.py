"""What the kernel has read of one field as an Arrow column of the reader's type; values that the type cannot hold are refused, row by row."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.shared.avro.decimals import decimals_of
from tidemill.shared.avro.json_values import DAY_UNITS, FIRST_DAY, LAST_DAY, UUID
from tidemill.shared.avro.read_kernel import gather_texts
from tidemill.shared.avro.schema_tree import AvroType

_MOST_TEXT = 2**31 - 1
Present = NDArray[np.uint8] | None


class BatchTooLarge(MemoryError):
    """A column of texts would have 2 GiB and more: the batch has to be read in parts."""


@dataclass(slots=True)
class Verdicts:
    """What is wrong with each refused record; the first finding counts."""

    by_row: dict[int, tuple[str, str]] = field(default_factory=dict)

    def refuse(self, row: int, reason: str, detail: str) -> None:
        """Refuse one record."""
        self.by_row.setdefault(row, (reason, detail))

    def refuse_all(self, rows: NDArray[np.bool_], reason: str, detail: str) -> None:
        """Refuse records by a mask, shape (n,)."""
        if rows.any():
            for row in np.flatnonzero(rows).tolist():
                self.refuse(row, reason, detail)


NumberColumn = Callable[[NDArray[np.int64], Present, Verdicts], pa.Array]
TextColumn = Callable[[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64], Present, Verdicts], pa.Array]


def number_column(name: str, writer: AvroType, reader: AvroType, kind: pa.DataType) -> NumberColumn:
    """Return the maker of a column of numbers, truth values or symbols; it takes what the kernel read and which rows are there (None: all)."""
    if reader.kind == "enum":
        return _symbols(name, writer, reader)
    if writer.kind == "null":
        return lambda numbers, _, __: pa.nulls(len(numbers), kind)
    store = _storage(writer.kind, reader.kind)
    low, high = _range(reader)

    def make(numbers: NDArray[np.int64], present: Present, verdicts: Verdicts) -> pa.Array:
        if low < high and len(numbers) and (int(numbers.min()) < low or int(numbers.max()) > high):
            verdicts.refuse_all((numbers < low) | (numbers > high), "out_of_range", f"{name}: expected {reader.logical} from {low} to {high}")
            numbers = np.clip(numbers, low, high)
        missing, bitmap = _missing(present)
        return pa.Array.from_buffers(kind, len(numbers), [bitmap, pa.py_buffer(store(numbers))], missing)

    return make


def text_column(name: str, writer: AvroType, reader: AvroType, kind: pa.DataType) -> TextColumn:
    """Return the maker of a column of texts, bytes, uuids or decimals."""

    def make(content: NDArray[np.uint8], places: NDArray[np.int64], ends: NDArray[np.int64], present: Present, verdicts: Verdicts) -> pa.Array:
        if ends[-1] > _MOST_TEXT:
            raise BatchTooLarge(f"{name}: {int(ends[-1])} bytes in one column of a batch")
        out = np.empty(int(ends[-1]), np.uint8)
        gather_texts(content, places, ends, out)
        missing, bitmap = _missing(present)
        if reader.logical == "decimal":
            detail = f"{name}: expected {kind}, found more digits"
            return decimals_of(out, ends, present, kind, lambda rows: verdicts.refuse_all(rows, "out_of_range", detail))
        if reader.logical == "uuid" and reader.kind == "fixed":
            return _uuids_of_bytes(out, len(places), present)
        column = pa.Array.from_buffers(kind, len(places), [bitmap, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(out)], missing)
        if reader.kind == "string":
            column = _valid_text(name, column, verdicts)
        return _valid_uuids(name, column, verdicts) if reader.logical == "uuid" else column

    return make


def _missing(present: Present) -> tuple[int, pa.Buffer | None]:
    missing = 0 if present is None else len(present) - int(np.count_nonzero(present))
    return missing, pa.py_buffer(np.packbits(present, bitorder="little")) if missing and present is not None else None


def _range(reader: AvroType) -> tuple[int, int]:
    if reader.logical == "date":
        return FIRST_DAY, LAST_DAY
    return (0, DAY_UNITS[reader.logical] - 1) if reader.logical in DAY_UNITS else (0, 0)


def _storage(writer: str, reader: str) -> Callable[[NDArray[np.int64]], NDArray[np.generic]]:
    """Return how the kernel's numbers (of floats and doubles the bits) are stored, promoted as Avro says: large numbers lose digits in silence."""
    if reader == "boolean":
        return lambda numbers: np.packbits(numbers.astype(np.bool_), bitorder="little")
    if reader in ("float", "double") and writer in ("int", "long"):
        return lambda numbers: numbers.astype(np.float32 if reader == "float" else np.float64)
    if writer == "float":
        if reader == "double":
            return lambda numbers: numbers.astype(np.uint32).view(np.float32).astype(np.float64)
        return lambda numbers: numbers.astype(np.uint32)
    if reader == "int":
        return lambda numbers: numbers.astype(np.int32)
    return lambda numbers: numbers


def _symbols(name: str, writer: AvroType, reader: AvroType) -> NumberColumn:
    own = frozenset(reader.symbols)
    symbols = pa.array([symbol if symbol in own else reader.default for symbol in writer.symbols], pa.string())
    unknown = np.array([symbol is None for symbol in symbols.to_pylist()], np.bool_)

    def make(numbers: NDArray[np.int64], present: Present, verdicts: Verdicts) -> pa.Array:
        there = np.ones(len(numbers), np.bool_) if present is None else present.astype(np.bool_)
        if unknown.any():
            bad = unknown[numbers] & there
            for row in np.flatnonzero(bad).tolist():
                symbol = writer.symbols[numbers[row]]
                detail = f"{name}: expected one of {', '.join(reader.symbols)[:200]}, found {symbol[:80]}; add the symbol, or give the enum a default"
                verdicts.refuse(row, "unknown_symbol", detail)
        return symbols.take(pa.array(numbers, mask=~there))

    return make


def _valid_text(name: str, column: pa.Array, verdicts: Verdicts) -> pa.Array:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        texts: list[str | None] = []
        for row, value in enumerate(column.view(pa.binary()).to_pylist()):
            try:
                texts.append(None if value is None else value.decode())
            except UnicodeDecodeError as error:
                verdicts.refuse(row, "invalid_utf8", f"{name}: expected text in UTF-8, found another byte at {error.start} of {len(value)}")
                texts.append(None)
        return pa.array(texts, column.type)
    return column


def _valid_uuids(name: str, column: pa.Array, verdicts: Verdicts) -> pa.Array:
    fits = pc.fill_null(pc.match_substring_regex(column, f"^{UUID.pattern}$"), True)
    if not pc.all(fits, min_count=0).as_py():
        bad = ~np.asarray(fits.to_numpy(zero_copy_only=False), np.bool_)
        verdicts.refuse_all(bad, "invalid_uuid", f"{name}: expected a uuid such as 123e4567-e89b-12d3-a456-426614174000")
    return pc.ascii_lower(column)


def _uuids_of_bytes(content: NDArray[np.uint8], n: int, present: Present) -> pa.Array:
    there = np.ones(n, np.bool_) if present is None else present.astype(np.bool_)
    texts = np.zeros((int(there.sum()), 36), np.uint8)
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    bytes_ = content.reshape(-1, 16)
    at = [k for k in range(36) if k not in (8, 13, 18, 23)]
    texts[:, at[0::2]], texts[:, at[1::2]] = digits[bytes_ >> 4], digits[bytes_ & 15]
    texts[:, [8, 13, 18, 23]] = ord("-")
    ends = np.zeros(n + 1, np.int32)
    np.cumsum(there * 36, out=ends[1:])
    missing, bitmap = _missing(present)
    return pa.Array.from_buffers(pa.string(), n, [bitmap, pa.py_buffer(ends), pa.py_buffer(texts)], missing)
