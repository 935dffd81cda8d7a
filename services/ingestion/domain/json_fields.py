"""The fields of a stream's records in JSON: which appear, and which no longer come."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.avro.schema_fields import FieldChange

_MOST_FIELDS = 300
_MOST_LETTERS = 100
_LEARNED_ROWS = 100
_LEAST_SEEN = 20
_CHANCE = 1e-6


@dataclass(slots=True)
class FieldStand:
    """One field.

    Attributes
    ----------
    begun, last
        Number of the first and of the last record that had it, of all records in JSON.
    seen
        Records that had it since it was new, or had come back.
    first_ms, last_ms
        Journal times of the first and the last of them.
    today, refused
        Of the day that is not over: records that had it, and those of them that were refused.
    status
        ``usual``, ``new`` (begun today) or ``gone``.
    """

    begun: int
    first_ms: int
    status: str
    last: int = -1
    last_ms: int = -1
    seen: int = 0
    today: int = 0
    refused: int = 0

    def is_missed(self, rows: int) -> bool:
        """Whether so many records in a row without it are no chance: below 1 in a million at the share of records that had it."""
        usual = self.seen / (self.last - self.begun + 2)
        return self.seen >= _LEAST_SEEN and (rows - 1 - self.last) * math.log1p(-usual) < math.log(_CHANCE)


@dataclass(frozen=True, slots=True)
class FieldsChanged:
    """What a day has brought."""

    changes: tuple[FieldChange, ...]
    first_ms: int
    records: int
    refused: int


@dataclass(slots=True)
class JsonFields:
    """Fold over the names that records have. The fields of the first hundred records, and of their day, are the usual ones.

    Attributes
    ----------
    rows, today
        Records so far, and of the day that is not over.
    stands
        By name; the first 300.
    """

    rows: int = 0
    today: int = 0
    learned: bool = False
    stands: dict[str, FieldStand] = field(default_factory=dict)

    def absorb(self, names: tuple[str, ...], rows: NDArray[np.int64], refused: int, first_ms: int, last_ms: int) -> None:
        """Count records that have the same names; called in the order of their first rows, before `passed` counts all of them.

        Parameters
        ----------
        rows
            Their places among the records in JSON that `passed` will count.
        first_ms, last_ms
            Journal times of the first and the last of them.
        """
        first = int(rows[0])
        for name in names:
            short = name[:_MOST_LETTERS]
            stand = self.stands.get(short)
            if stand is None:
                if len(self.stands) >= _MOST_FIELDS:
                    continue
                stand = self.stands[short] = FieldStand(self.rows + first, first_ms, "new")
            elif stand.status == "gone":
                stand.begun, stand.first_ms, stand.seen, stand.status = self.rows + first, first_ms, 0, "new"
            stand.last, stand.last_ms = max(stand.last, self.rows + int(rows[-1])), max(stand.last_ms, last_ms)
            stand.seen, stand.today, stand.refused = stand.seen + len(rows), stand.today + len(rows), stand.refused + refused

    def passed(self, rows: int) -> None:
        """Take note that so many records in JSON have been counted."""
        self.rows, self.today = self.rows + rows, self.today + rows

    def close(self, columns: Mapping[str, str]) -> FieldsChanged | None:
        """Return what the day has brought; columns of the application by name."""
        if not self.today:
            return None
        changes: list[tuple[FieldChange, int, int, int]] = []
        for name, stand in sorted(self.stands.items()):
            column = columns.get(name, "")
            if stand.status == "new":
                stand.status = "usual"
                if self.learned:
                    change = FieldChange(name, "added", "", "", column, "read" if column else "none")
                    changes.append((change, stand.first_ms, stand.today, stand.refused))
            elif stand.status == "usual" and stand.is_missed(self.rows):
                stand.status = "gone"
                missed = min(self.rows - 1 - stand.last, self.today)
                changes.append((FieldChange(name, "dropped", "", "", column, "lost" if column else "none"), stand.last_ms, missed, 0))
            stand.today = stand.refused = 0
        self.learned, self.today = self.learned or self.rows >= _LEARNED_ROWS, 0
        if not changes:
            return None
        told, since, records, refused = zip(*changes, strict=True)
        return FieldsChanged(told, min(since), max(records), max(refused))

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists, texts and numbers."""
        stands = {name: [getattr(stand, one) for one in FieldStand.__slots__] for name, stand in self.stands.items()}
        return {"rows": self.rows, "today": self.today, "learned": self.learned, "stands": stands}

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> "JsonFields":
        """From a snapshot."""
        stands = {name: FieldStand(**dict(zip(FieldStand.__slots__, values, strict=True))) for name, values in state["stands"].items()}
        return cls(state["rows"], state["today"], state["learned"], stands)
