"""Columns that hold one value over and over."""

import pyarrow as pa


class Repeated:
    """The value at a place of an array, null included, as often as is asked for: a slice of the longest column that was."""

    def __init__(self, values: pa.Array, place: int) -> None:
        self._value = values[place]
        self._column = values.slice(place, 1)

    def column(self, count: int) -> pa.Array:
        """Return it so many times."""
        if count > len(self._column):
            self._column = pa.repeat(self._value, 2 * count)
        return self._column.slice(0, count)
