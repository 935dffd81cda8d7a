"""Decimals between Avro's bytes (big-endian two's complement of the unscaled number) and Arrow's 128-bit integers."""

from collections.abc import Callable
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_WIDTH = 16
_MOST_DIGITS = 38


def decimals_of(
    content: NDArray[np.uint8],
    ends: NDArray[np.int64],
    present: NDArray[np.uint8] | None,
    kind: pa.Decimal128Type,
    refuse: Callable[[NDArray[np.bool_]], None],
) -> pa.Array:
    """Return a decimal column; `refuse` gets the rows whose numbers have more digits than `kind`."""
    n = len(ends) - 1
    begins, lengths = ends[:-1], np.diff(ends)
    negative = np.zeros(n, np.bool_)
    some = lengths > 0
    negative[some] = content[begins[some]] >= 0x80
    words = np.where(negative, 0xFF, 0).astype(np.uint8)[:, None].repeat(_WIDTH, axis=1)
    for k in range(_WIDTH):
        rows = lengths > k
        words[rows, k] = content[ends[1:][rows] - 1 - k]
    bad = np.zeros(n, np.bool_)
    for row in np.flatnonzero(lengths > _WIDTH).tolist():
        bad[row] = abs(int.from_bytes(content[begins[row] : ends[row + 1]].tobytes(), "big", signed=True)) >= 10**kind.precision
    bad |= (lengths <= _WIDTH) & _beyond(words, kind)
    words[bad] = 0
    refuse(bad)
    missing = 0 if present is None else n - int(np.count_nonzero(present))
    bitmap = pa.py_buffer(np.packbits(present, bitorder="little")) if missing and present is not None else None
    return pa.Array.from_buffers(kind, n, [bitmap, pa.py_buffer(np.ascontiguousarray(words))], missing)


def bytes_of(column: pa.Array, size: int | None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the numbers of a decimal column as bytes, as few as will do or `size` each (fixed), and where each begins and ends (null: nothing).

    Raises
    ------
    ValueError
        A number does not fit `size` bytes.
    """
    n = len(column)
    words = np.frombuffer(column.buffers()[1], np.uint8).reshape(-1, _WIDTH)[column.offset : column.offset + n]
    sign = np.where(words[:, -1] >= 0x80, 0xFF, 0).astype(np.uint8)
    needed = np.ones(n, np.int64)
    for k in range(1, _WIDTH):
        # Byte k counts unless it, and all above, only repeat the sign that byte k - 1 has already.
        needed[(words[:, k] != sign) | ((words[:, k - 1] >= 0x80) != (sign == 0xFF))] = k + 1
    present = np.asarray(column.is_valid().to_numpy(zero_copy_only=False), np.bool_)
    if size is not None:
        if (needed[present] > size).any():
            raise ValueError(f"expected numbers that fit {size} bytes, found {column.filter(pa.array(needed > size))[0].as_py()}")
        wide = np.concatenate([np.repeat(sign[:, None], max(0, size - _WIDTH), axis=1), words[:, ::-1]], axis=1)[:, -size:]
        lengths = np.where(present, size, 0)
        content = wide[present].reshape(-1)
    else:
        lengths = np.where(present, needed, 0)
        content = words[:, ::-1][np.arange(_WIDTH)[None, :] >= _WIDTH - lengths[:, None]]
    stops = np.zeros(n + 1, np.int64)
    np.cumsum(lengths, out=stops[1:])
    return np.ascontiguousarray(content), stops


def _beyond(words: NDArray[np.uint8], kind: pa.Decimal128Type) -> NDArray[np.bool_]:
    """Say which 128-bit numbers have more digits than `kind`."""
    n = len(words)
    if kind.precision >= _MOST_DIGITS:
        numbers = (int.from_bytes(row.tobytes(), "little", signed=True) for row in words)
        return np.fromiter((abs(number) >= 10**kind.precision for number in numbers), np.bool_, n)
    # Above 10^38 Arrow itself would not compare: those numbers are known by their highest bytes.
    high = words[:, -8:].copy().view(np.int64)[:, 0]
    beyond = (high >= 10**_MOST_DIGITS >> 64) | (high <= -(10**_MOST_DIGITS >> 64))
    safe = np.where(beyond[:, None], 0, words).astype(np.uint8)
    numbers = pa.Array.from_buffers(pa.decimal128(_MOST_DIGITS, 0), n, [None, pa.py_buffer(np.ascontiguousarray(safe))])
    limit = pa.scalar(Decimal(10) ** kind.precision, pa.decimal128(_MOST_DIGITS, 0))
    return np.asarray(beyond | pc.greater_equal(pc.abs(numbers), limit).to_numpy(zero_copy_only=False), np.bool_)
