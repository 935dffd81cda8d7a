"""Rows that come and go in order, as bytes: some tens of bytes each where an object would take hundreds."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]

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

    def place(self, repeated: tuple[Any, ...]) -> int:
        """Return where a tuple lies among those of the block; nearly always it is what the row before had."""
        common = self.repeated
        if not common or common[-1] != repeated:
            if repeated in common:
                return common.index(repeated)
            common.append(repeated)
        return len(common) - 1

    def extend(self, texts: Sequence[bytes], repeated: Sequence[tuple[Any, ...]], names: Sequence[str], columns: Sequence[NDArray[Any]]) -> None:
        """Add rows, for which there is room."""
        begin, ends = self.count, len(self.text) + np.cumsum([len(text) for text in texts])
        self.text += b"".join(texts)
        self.count += len(texts)
        view = self.view()[begin:]
        for name, values in zip(names, (ends, [self.place(one) for one in repeated], *columns), strict=True):
            view[name] = values

    def spans(self, at: Int64) -> tuple[list[int], list[int]]:
        """Begin and end of the ids of rows."""
        ends = self.view()["_end"].astype(np.int64) + self.bases[0]
        return np.where(at > 0, ends[at - 1], 0).tolist(), ends[at].tolist()

    def numbers(self, name: str, at: Int64 | slice) -> NDArray[Any]:
        """Numbers of rows by their places."""
        values: NDArray[Any] = self.view()[name][at]
        base = self.bases[(self.dtype.names or ()).index(name)]
        return values.astype(np.int64) + base if base else values

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
        block = self._open(values[0])
        block.text += identity.encode()
        block.layout.pack_into(block.cells, self.end % ROWS * block.size, len(block.text), block.place(repeated), *values)
        block.count += 1
        row = self.end
        self.end += 1
        return row

    def extend(self, identities: Sequence[str], repeated: Sequence[tuple[Any, ...]], columns: Sequence[NDArray[Any]]) -> None:
        """Add rows, as `append` does one by one; their numbers follow each other.

        Raises
        ------
        ValueError
            The journal offset falls (a bug upstream: crash).
        """
        offsets, texts, begin = columns[0], [identity.encode() for identity in identities], 0
        fall = np.flatnonzero(np.diff(offsets, prepend=self._newest_offset) < 0)
        if len(fall):
            raise ValueError(f"expected rows in journal order, got offset {offsets[fall[0]]} of {identities[fall[0]]} after a later one")
        while begin < len(texts):
            block = self._open(int(offsets[begin]))
            end = min(len(texts), begin + ROWS - self.end % ROWS)
            block.extend(texts[begin:end], repeated[begin:end], self._names, [values[begin:end] for values in columns])
            self.end += end - begin
            begin = end
        if texts:
            self._newest_offset = int(offsets[-1])

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

    def values(self, rows: Int64, name: str) -> NDArray[Any]:
        """Return a number of rows."""
        parts = [(chosen, block.numbers(name, at)) for block, chosen, at in self._parts(rows)]
        if len(parts) == 1:
            return parts[0][1]
        values = np.empty(len(rows), np.result_type(*(some for _, some in parts)) if parts else np.int64)
        for chosen, some in parts:
            values[chosen] = some
        return values

    def set_all(self, rows: Int64, name: str, value: int) -> None:
        """Set a number of rows."""
        for block, _, at in self._parts(rows):
            block.view()[name][at] = value

    def take(self, rows: Int64) -> list[Sequence[Any]]:
        """Columns of rows, in their order: ids, repeated tuples, then each number."""
        common: list[tuple[Any, ...]] = [()] * len(rows)
        for block, chosen, at in self._parts(rows):
            for i, place in zip(chosen.tolist(), block.view()["_repeated"][at].tolist(), strict=True):
                common[i] = block.repeated[place]
        return [self.identities(rows), common, *(self.values(rows, name).tolist() for name in self._names[2:])]

    def identities(self, rows: Int64) -> list[str]:
        """Return the ids of rows."""
        texts = [""] * len(rows)
        for block, chosen, at in self._parts(rows):
            for i, begin, end in zip(chosen.tolist(), *block.spans(at), strict=True):
                texts[i] = block.text[begin:end].decode()
        return texts

    def first_from(self, time_ms: int, begin: int) -> int:
        """Return the number of the first row, of those from `begin` on, whose "time_ms" is not before an instant; `end` when there is none."""
        while begin < self.end:
            block, at = self._place(begin)
            before = int(np.searchsorted(block.numbers("time_ms", slice(at, block.count)), time_ms))
            begin += before
            if before < block.count - at:
                break
        return begin

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
        self.forget_until(self.first + 1)

    def forget_until(self, row: int) -> None:
        """Let go of all rows before one."""
        self.first = row
        while self.first // ROWS > self._dropped:
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

    def _parts(self, rows: Int64) -> Iterator[tuple[_Block, Int64, Int64]]:
        """Blocks of rows, with the indices of those that lie in each and their places there."""
        if not len(rows):
            return
        numbers, at = np.divmod(rows, ROWS)
        order = np.argsort(numbers, kind="stable")
        edges = np.flatnonzero(np.diff(numbers[order])) + 1
        for begin, end in pairwise([0, *edges.tolist(), len(rows)]):
            chosen = order[begin:end]
            yield self._blocks[int(numbers[chosen[0]]) - self._dropped], chosen, at[chosen]

    def _open(self, offset: int) -> _Block:
        """Return the block of the row to come next, which has this journal offset."""
        if self.end % ROWS == 0:
            if self._blocks:
                self._blocks[-1].close(*self._narrow)
            self._blocks.append(_Block(*self._wide, offset))
        return self._blocks[-1]


def _layout(columns: Sequence[tuple[str, str]]) -> tuple[np.dtype[Any], Struct]:
    return np.dtype([(name, f"<{kind}") for name, kind in columns]), Struct("<" + "".join(_FORMATS[kind] for _, kind in columns))


def _places(dtype: np.dtype[Any]) -> dict[str, int]:
    return {name: int(field[1]) for name, field in (dtype.fields or {}).items()}
