"""Mergeable histograms of categories over fixed bins: the most frequent values, one bin for all others, one for missing values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.shared.short_text import short_text

LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class CategoryBins:
    """One bin per named category, one for all others, one for missing values."""

    categories: tuple[str, ...]

    def counts(self, tally: "Tally") -> NDArray[np.int64]:
        """Rows per bin, shape (categories + 2,)."""
        named = [tally.counts.get(name, 0) for name in self.categories]
        return np.array([*named, tally.present - sum(named), tally.missing], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of a column of categories; beyond `limit` different ones, new ones count as `other` (so memory is bounded).

    A category is known by its first 200 characters, its length and a digest (`short_text`), so one huge text takes no more room than others.
    Which categories are named depends on the order of arrival, not on how the column was cut into parts: a part names every category it has,
    and what it is merged into admits them up to its limit.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    other: int = 0
    missing: int = 0
    limit: int = 2000

    @staticmethod
    def of(values: Sequence[str | None], limit: int = 2000) -> "Tally":
        """Of a column, the whole of it by name; None is missing."""
        counts: dict[str | None, int] = {}
        for value in values:
            counts[value] = counts.get(value, 0) + 1
        missing = counts.pop(None, 0)
        return Tally({short_text(name, LONGEST_NAME): count for name, count in counts.items() if name is not None}, 0, missing, limit)

    @staticmethod
    def of_column(column: pa.Array) -> "Tally":
        """Of an Arrow column of texts, as `of` has it.

        >>> Tally.of_column(pa.array(["b", "a", None, "b"])) == Tally.of(["b", "a", None, "b"])
        True
        """
        parts = column.dictionary_encode()
        size = len(parts.dictionary)
        counts = np.bincount(parts.indices.fill_null(size).to_numpy(zero_copy_only=False), minlength=size + 1)[:size].tolist()
        names = [short_text(name, LONGEST_NAME) for name in parts.dictionary.to_pylist()]
        return Tally(dict(zip(names, counts, strict=True)), 0, column.null_count)

    @property
    def present(self) -> int:
        """Rows with a value."""
        return sum(self.counts.values()) + self.other

    @property
    def rows(self) -> int:
        """Rows with or without a value."""
        return self.present + self.missing

    @property
    def is_empty(self) -> bool:
        """Whether there are no rows, as `rows` says once it has counted them."""
        return not self.counts and not self.other and not self.missing

    @property
    def missing_share(self) -> float:
        """Share of rows without a value; 0 without rows."""
        return self.missing / self.rows if self.rows else 0.0

    def merged(self, later: "Tally") -> "Tally":
        """Of both columns together, at the limit of the first."""
        counts, other = dict(self.counts), self.other + later.other
        for name, count in later.counts.items():
            if name in counts or len(counts) < self.limit:
                counts[name] = counts.get(name, 0) + count
            else:
                other += count
        return Tally(counts, other, self.missing + later.missing, self.limit)

    def bins(self, top: int = 20) -> CategoryBins:
        """Bins for the most frequent categories (ties by name)."""
        ranked = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        return CategoryBins(tuple(name for name, _ in ranked[:top]))

    def unseen(self, reference: "Tally") -> int:
        """Rows whose category the reference has never seen (unknown where the reference itself overflowed: counted as seen)."""
        return sum(count for name, count in self.counts.items() if name not in reference.counts) if reference.other == 0 else 0

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists and numbers, order of arrival kept."""
        return {"counts": list(map(list, self.counts.items())), "other": self.other, "missing": self.missing, "limit": self.limit}

    @staticmethod
    def load(state: dict[str, Any]) -> "Tally":
        """From a snapshot."""
        return Tally({name: count for name, count in state["counts"]}, state["other"], state["missing"], state["limit"])
