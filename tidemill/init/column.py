"""A column of the table, typed, and how it came to its type."""

from dataclasses import dataclass
from typing import Literal

import polars as pl

Kind = Literal["integer", "number", "boolean", "text", "date", "time", "other"]


@dataclass(frozen=True, slots=True)
class InputColumn:
    """One column.

    Attributes
    ----------
    name
        As the file has it.
    values
        Int64, Float64, Boolean, String, Date or Datetime (milliseconds, UTC); null where there is no value.
    kind
        ``other`` for what no stream carries as a feature: lists, bytes.
    notes
        What was decided about its values, where somebody may want to know.
    """

    name: str
    values: pl.Series
    kind: Kind
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    @property
    def nulls(self) -> int:
        """Rows without a value."""
        return self.values.null_count()

    def where(self, kept: pl.Series) -> "InputColumn":
        """Return the chosen rows."""
        return InputColumn(self.name, self.values.filter(kept), self.kind, self.notes)

    def ordered(self, rows: pl.Series) -> "InputColumn":
        """Return the rows in another order."""
        return InputColumn(self.name, self.values.gather(rows), self.kind, self.notes)
