"""What many models read, encoded once: each distinct column of a batch becomes numbers one time, whoever uses it."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.shared.models.blocks import Blocks, blocks_of, padded
from tidemill.shared.models.signature import Column, within_range

_DOUBLE = pa.float64()
_FEW = 256
"""Rows below which looking every value up costs less than finding the distinct ones first (measured)."""


class Inputs:
    """Where every input of some models stands in one table of numbers, and how a batch fills it.

    Numbers with the same name share a row of the table. A category is looked up once per batch; each model's own table of codes is then
    applied to the positions, tables with equal contents once.

    Parameters
    ----------
    models
        Per model, its columns in order.

    Attributes
    ----------
    positions : per model an int32 array, shape (its columns,)
        Rows of the table.
    """

    def __init__(self, models: Sequence[Sequence[Column]]) -> None:
        distinct = [column for columns in models for column in columns]
        self._numbers = list(dict.fromkeys(column.name for column in distinct if column.type == "double"))
        at: dict[tuple[str, ...], int] = {("double", name): i for i, name in enumerate(self._numbers)}
        tables: dict[str, dict[str, Column]] = {}
        for column in distinct:
            if column.type == "string":
                tables.setdefault(column.name, {})[column.contents] = column
        self._categories = []
        self.width = len(self._numbers)
        for name, chosen in tables.items():
            for i, contents in enumerate(chosen):
                at["string", name, contents] = self.width + i
            self._categories.append(_Category(name, list(chosen.values()), self.width))
            self.width += len(chosen)
        self.positions = [np.array([at[_key(column)] for column in columns], np.int32) for columns in models]

    def encode(self, batch: pa.RecordBatch) -> Blocks:
        """Return the table of a batch in blocks, NaN where a value is missing; KeyError names a column that is not there."""
        n = batch.num_rows
        table = np.zeros((self.width, padded(n)), np.float32)
        for i, name in enumerate(self._numbers):
            values = _column(batch, name)
            with np.errstate(over="ignore"):
                table[i, :n] = (values if values.type == _DOUBLE else values.cast(_DOUBLE)).to_numpy(zero_copy_only=False)
        within_range(table[: len(self._numbers)])
        for category in self._categories:
            category.encode(_column(batch, category.name), table[:, :n])
        return blocks_of(table)


class _Category:
    """One text column and the code tables that models apply to it."""

    def __init__(self, name: str, columns: Sequence[Column], row: int) -> None:
        self.name = name
        self._rows = slice(row, row + len(columns))
        known = dict.fromkeys(value for column in columns for value in column.codes)
        self._vocabulary: dict[str | None, int] = {value: i for i, value in enumerate((*known, None))}
        codes = [[*(column.codes.get(value, column.unknown) for value in known), float("nan"), column.unknown] for column in columns]
        self._codes = np.array(codes, np.float32)

    def encode(self, values: pa.Array, table: NDArray[np.float32]) -> None:
        if len(values) < _FEW:
            words = self._words(values)
        else:
            encoded = values.dictionary_encode(null_encoding="encode")
            words = self._words(encoded.dictionary)[encoded.indices.to_numpy()]
        table[self._rows] = self._codes[:, words]

    def _words(self, values: pa.Array) -> NDArray[np.int64]:
        unknown, of = len(self._vocabulary), self._vocabulary.get
        return np.array([of(value, unknown) for value in values.to_pylist()], np.int64)


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    index = batch.schema.get_field_index(name)
    if index < 0:
        raise KeyError(f"models expect the feature {name}, found {batch.schema.names}")
    return batch.column(index)


def _key(column: Column) -> tuple[str, ...]:
    return ("double", column.name) if column.type == "double" else ("string", column.name, column.contents)
