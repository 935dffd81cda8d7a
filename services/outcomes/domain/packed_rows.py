"""Rows that come and go in order, as bytes: some tens of bytes each where an object would take hundreds."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Any

import numpy as np

ROWS = 4_096
"""Rows of a block, in which numbers are kept relative to the smallest, once it is full."""
_FORMATS = {"u1": "B", "u2": "H", "u4": "I", "i4": "i", "i8": "q", "f8": "d"}
_COORDINATES = (Struct("<II"), Struct("<qq"))
"""Layout of "offset" and "time_ms" in a block that is full and in one that is not."""
_LARGEST_NARROW = (1 << 32) - 1


class _Block:
    """Up to `ROWS` rows. A full block keeps its columns of 8-byte integers in four bytes if they lie within 2^32 of one another."""

    __slots__ = ("bases", "cells", "count", "dtype", "first_offset", "layout", "places", "repeated", "size", "text")

    def __init__(self, dtype: np.dtype[Any], layout: Struct, first_offset: int) -> None:
        self.first_offset = first_offset
        self.dtype, self.layout, self.size, self.places = dtype, layout, layout.size, _places(dtype)
        self.cells = bytearray(ROWS * layout.size)
        self.text = bytearray()
        self.count = 0
        self.bases = (0,) * len(dtype.names or ())
        self.repeated: list[tuple[Any, ...]] = []

    def view(self) -> np.ndarray[Any, Any]:
        return np.frombuffer(self.cells, self.dtype, self.count)

    def columns(self, names: Sequence[str], begin: int, end: int) -> list[Sequence[Any]]:
        """Ids, repeated tuples, and the other numbers of rows, with what they are relative to."""
        view = self.view()
        stops = (view["_end"][max(0, begin - 1) : end].astype(np.int64) + self.bases[0]).tolist()
        starts = stops[:-1] if begin else [0, *stops[:-1]]
        stops = stops[-(end - begin) :]
        text = self.text[starts[0] : stops[-1]]
        texts = [text[i - starts[0] : j - starts[0]].decode() for i, j in zip(starts, stops, strict=True)]
        common = [self.repeated[i] for i in view["_repeated"][begin:end].tolist()]
        numbers = []
        for name, base in zip(names[2:], self.bases[2:], strict=True):
            values = view[name][begin:end]
            numbers.append((values.astype(np.int64) + base if base else values).tolist())
        return [texts, common, *numbers]

    def close(self, narrow: np.dtype[Any], layout: Struct) -> None:
        self.text = bytearray(bytes(self.text))  # without spare room
        view = self.view()
        names = self.dtype.names or ()
        bases = tuple(int(view[name].min()) if narrow[name] != self.dtype[name] else 0 for name in names)
        if any(int(view[name].max()) - base >= _LARGEST_NARROW for name, base in zip(names, bases, strict=True) if narrow[name] != self.dtype[name]):
            return
        packed = np.empty(self.count, narrow)
        for name, base in zip(names, bases, strict=True):
            packed[name] = view[name] - base if narrow[name] != self.dtype[name] else view[name]
        del view
        self.cells, self.bases = bytearray(packed.tobytes()), bases
        self.dtype, self.layout, self.size, self.places = narrow, layout, layout.size, _places(narrow)


class PackedRows:
    """First in, first out; each row with an id, numbers, and a tuple that many rows have in common.

    Parameters
    ----------
    columns
        Name and NumPy type of each number. The first two are "offset" and "time_ms", in journal order; those of type ``u1`` and ``u4`` can be set.

    Attributes
    ----------
    first, end
        Numbers of the first row kept, and of the next to come. Rows are numbered from 0 on, ever.
    """

    def __init__(self, columns: Sequence[tuple[str, str]]) -> None:
        wide = [("_end", "i8"), ("_repeated", "u2"), *columns]
        narrow = [(name, "u4" if kind == "i8" else kind) for name, kind in wide]
        self._wide, self._narrow = _layout(wide), _layout(narrow)
        self._names = [name for name, _ in wide]
        self._cells = {name: Struct(f"<{_FORMATS[kind]}") for name, kind in columns if kind in ("u1", "u4")}
        self._blocks: list[_Block] = []
        self._dropped = 0
        self._newest_offset = -1
        self.first = self.end = 0

    def __len__(self) -> int:
        return self.end - self.first

    def append(self, identity: str, repeated: tuple[Any, ...], *values: Any) -> int:
        """Add a row and return its number.

        Raises
        ------
        ValueError
            The journal offset falls (a bug upstream: crash).
        """
        if values[0] < self._newest_offset:
            raise ValueError(f"expected rows in journal order, got offset {values[0]} of {identity} after {self._newest_offset}")
        self._newest_offset = values[0]
        at = self.end % ROWS
        if at == 0:
            if self._blocks:
                self._blocks[-1].close(*self._narrow)
            self._blocks.append(_Block(*self._wide, values[0]))
        block = self._blocks[-1]
        block.text += identity.encode()
        common = block.repeated
        # Nearly always what the row before had.
        place = len(common) - 1 if common and common[-1] == repeated else _place(common, repeated)
        block.layout.pack_into(block.cells, at * block.size, len(block.text), place, *values)
        block.count += 1
        row = self.end
        self.end += 1
        return row

    def number(self, lower: int) -> int:
        """Return the number of the kept row with these lower 32 bits."""
        return self.first + ((lower - self.first) & 0xFFFFFFFF)

    def get(self, row: int) -> tuple[Any, ...]:
        """Return a row's numbers."""
        block, at = self._place(row)
        values: tuple[Any, ...] = block.layout.unpack_from(block.cells, at * block.size)
        if block.dtype is self._wide[0]:
            return values[2:]
        return tuple([value + base if base else value for value, base in zip(values[2:], block.bases[2:], strict=True)])

    def value(self, row: int, name: str) -> int:
        """Return a number of a row that can be set."""
        block, at = self._place(row)
        value: int = self._cells[name].unpack_from(block.cells, at * block.size + block.places[name])[0]
        return value

    def coordinates(self, row: int) -> tuple[int, int]:
        """Return a row's "offset" and "time_ms"."""
        block, at = self._place(row)
        offset, time_ms = _COORDINATES[block.dtype is self._wide[0]].unpack_from(block.cells, at * block.size + block.places["offset"])
        return offset + block.bases[2], time_ms + block.bases[3]

    def repeated(self, row: int) -> tuple[Any, ...]:
        """Return the tuple that a row has in common with others."""
        block, at = self._place(row)
        common: tuple[Any, ...] = block.repeated[block.layout.unpack_from(block.cells, at * block.size)[1]]
        return common

    def identity(self, row: int) -> str:
        """Return a row's id."""
        return self._text(row).decode()

    def is_named(self, row: int, identity: str) -> bool:
        """Whether a row has this id."""
        return self._text(row) == identity.encode()

    def set(self, row: int, name: str, value: int) -> None:
        """Change a number of a row."""
        block, at = self._place(row)
        self._cells[name].pack_into(block.cells, at * block.size + block.places[name], value)

    def forget_first(self) -> None:
        """Let go of the oldest row."""
        self.first += 1
        if self.first // ROWS > self._dropped:
            del self._blocks[0]
            self._dropped += 1

    def between(self, low: int, high: int) -> Iterator[list[Sequence[Any]]]:
        """Columns of the rows with journal offsets in [low, high), in order: ids, repeated tuples, then each number; block by block."""
        number = max(0, bisect_right(self._blocks, low, key=lambda block: block.first_offset) - 1)
        # Rows of one offset may lie in two blocks.
        while number > 0 and self._blocks[number].first_offset == low:
            number -= 1
        for place in range(number, len(self._blocks)):
            block = self._blocks[place]
            if block.first_offset >= high:
                return
            start = (self._dropped + place) * ROWS
            offsets = block.view()["offset"]
            base, limit = (block.first_offset, _LARGEST_NARROW) if block.dtype is self._narrow[0] else (0, high)
            begin, end = np.searchsorted(offsets, np.array([min(max(0, low - base), limit), min(high - base, limit)], offsets.dtype)).tolist()
            begin = max(self.first - start, begin)
            if begin < end:
                yield block.columns(self._names, begin, end)

    def _text(self, row: int) -> bytes:
        block, at = self._place(row)
        base = block.bases[0]
        end = base + block.layout.unpack_from(block.cells, at * block.size)[0]
        begin = base + block.layout.unpack_from(block.cells, (at - 1) * block.size)[0] if at else 0
        return bytes(block.text[begin:end])

    def _place(self, row: int) -> tuple[_Block, int]:
        return self._blocks[row // ROWS - self._dropped], row % ROWS


def _layout(columns: Sequence[tuple[str, str]]) -> tuple[np.dtype[Any], Struct]:
    return np.dtype([(name, f"<{kind}") for name, kind in columns]), Struct("<" + "".join(_FORMATS[kind] for _, kind in columns))


def _place(common: list[tuple[Any, ...]], repeated: tuple[Any, ...]) -> int:
    if repeated not in common:
        common.append(repeated)
    return common.index(repeated)


def _places(dtype: np.dtype[Any]) -> dict[str, int]:
    return {name: int(field[1]) for name, field in (dtype.fields or {}).items()}
