"""Many byte strings one after the other: the form in which records pass between clients, codecs and tasks without an object for each."""

import operator
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


class Packed(Sequence[bytes]):
    """Byte strings, none of them null, as one read-only buffer; a sequence of `bytes` for whoever looks at single ones.

    Slices share the buffer. What may hold nulls stays a list: see `packed_or_list`.

    Attributes
    ----------
    content : uint8 array, read-only
    stops : int64 array, shape (n + 1,)
        String i is ``content[stops[i]:stops[i + 1]]``; the first need not begin at 0.
    """

    __slots__ = ("content", "stops")

    def __init__(self, content: NDArray[np.uint8], stops: NDArray[np.int64]) -> None:
        # One kind of array for the compiled loops: those of `bytes` are read-only as well.
        content.flags.writeable = False
        self.content = content
        self.stops = stops

    @classmethod
    def of(cls, values: Sequence[bytes | None]) -> "Packed | None":
        """Pack byte strings; None when one is null."""
        if isinstance(values, Packed):
            return values
        try:
            content = np.frombuffer(b"".join(values), np.uint8)  # type: ignore[arg-type]  # a null raises TypeError, which is caught
        except TypeError:
            return None
        stops = np.zeros(len(values) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, values), np.int64, len(values)), out=stops[1:])  # type: ignore[arg-type]  # none is null here
        return cls(content, stops)

    @classmethod
    def of_column(cls, column: pa.Array) -> "Packed | None":
        """Return the bytes of a string or binary column, without a copy of them; None when one is null."""
        if column.null_count:
            return None
        _, offsets, content = column.buffers()
        wide = pa.types.is_large_string(column.type) or pa.types.is_large_binary(column.type)
        begin, n = column.offset, len(column)
        stops = np.zeros(1, np.int64) if offsets is None else np.frombuffer(offsets, np.int64 if wide else np.int32)[begin : begin + n + 1]
        return cls(np.frombuffer(b"" if content is None else content, np.uint8), stops.astype(np.int64))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Bytes of each."""
        return np.diff(self.stops)

    @property
    def address(self) -> int:
        """Where in memory the first begins; the others follow without a gap."""
        return int(self.content.ctypes.data + self.stops[0])

    def take(self, rows: NDArray[np.int64]) -> "Packed":
        """Return some of them, in the order of `rows`."""
        n = len(rows)
        if n == len(self) and (rows == np.arange(n)).all():
            return self
        taken = self.column().take(pa.array(rows))
        _, offsets, content = taken.buffers()
        stops = np.frombuffer(offsets, np.int64)[taken.offset : taken.offset + n + 1]
        return Packed(np.frombuffer(b"" if content is None else content, np.uint8), stops)

    def tolist(self) -> list[bytes]:
        """One object for each."""
        values: list[bytes] = self.column().to_pylist()
        return values

    def column(self) -> pa.Array:
        """Return a large binary column over the same memory."""
        buffers = [None, pa.py_buffer(self.stops), pa.py_buffer(self.content)]
        return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(self), buffers)

    def __len__(self) -> int:
        return len(self.stops) - 1

    @overload
    def __getitem__(self, row: int) -> bytes: ...

    @overload
    def __getitem__(self, row: slice) -> "Packed": ...

    def __getitem__(self, row: int | slice) -> "bytes | Packed":
        n = len(self)
        if isinstance(row, slice):
            begin, end, step = row.indices(n)
            if step != 1:
                return self.take(np.arange(begin, end, step))
            return Packed(self.content, self.stops[begin : max(begin, end) + 1])
        place = operator.index(row)
        place += n if place < 0 else 0
        if not 0 <= place < n:
            raise IndexError(f"row {row} of {n}")
        return self.content[self.stops[place] : self.stops[place + 1]].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.tolist())

    def __contains__(self, value: object) -> bool:
        return value is not None and value in self.tolist()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (Packed, list, tuple)) and len(self) == len(other) and self.tolist() == list(other)

    __hash__ = None  # type: ignore[assignment]  # as Python has it for what is equal by content

    def __repr__(self) -> str:
        return f"Packed({self.tolist()!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        begin, end = int(self.stops[0]), int(self.stops[-1])
        return _unpickled, (self.content[begin:end].tobytes(), self.stops - begin)


def packed_or_list(values: Sequence[bytes | None]) -> Sequence[bytes | None]:
    """Pack byte strings; as they are when one is null."""
    packed = Packed.of(values)
    return values if packed is None else packed


def taken(values: Sequence[bytes | None], rows: NDArray[np.int64]) -> Sequence[bytes | None]:
    """Return some of them, in the order of `rows`."""
    return values.take(rows) if isinstance(values, Packed) else [values[row] for row in rows.tolist()]


def chained(parts: Sequence[Sequence[bytes | None]]) -> Sequence[bytes | None]:
    """Return one sequence after the other; packed if all are."""
    packed = [part for part in parts if isinstance(part, Packed)]
    if not packed or len(packed) < len(parts):
        return [value for part in parts for value in part]
    stops = np.zeros(sum(map(len, packed)) + 1, np.int64)
    np.cumsum(np.concatenate([part.lengths for part in packed]), out=stops[1:])
    return Packed(np.concatenate([part.content[part.stops[0] : part.stops[-1]] for part in packed]), stops)


def _unpickled(content: bytes, stops: NDArray[np.int64]) -> Packed:
    return Packed(np.frombuffer(content, np.uint8), stops)
