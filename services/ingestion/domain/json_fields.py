"""The fields of a stream's records in JSON: which appear, and which no longer come."""

import json
import math
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.avro.schema_fields import FieldChange

_MOST_FIELDS = 300
_MOST_STRANGE = 20
_MOST_BYTES = 100
# What the numbers of a field take in a snapshot, about.
_STAND_BYTES = 70
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


@dataclass(frozen=True, slots=True)
class NameRoom:
    """How much may be kept of names that others choose.

    Attributes
    ----------
    columns
        Names of the application's columns: there is always room for these.
    own_bytes, strange_bytes
        In a snapshot: of fields of accepted records; of those that only refused records of the day have, and as much again of those told before.
    """

    columns: Set[str]
    own_bytes: int
    strange_bytes: int


@dataclass(slots=True)
class JsonFields:
    """Fold over the names that records have. The fields of the first hundred records, and of their day, are the usual ones.

    A field is one of the stream once an accepted record has it. What only refused records have may be a producer's new field, of which people are to
    be told, or anything that a stranger invents: it is told once and forgotten with the day.

    Attributes
    ----------
    rows, today
        Records so far, and of the day that is not over.
    stands
        Fields of accepted records by name; refused ones count from there on.
    strange
        By name: records of today that were refused before an accepted one had it, and the journal time of the first.
    told
        Names that were strange on a day before, the last ones.
    """

    rows: int = 0
    today: int = 0
    learned: bool = False
    stands: dict[str, FieldStand] = field(default_factory=dict)
    strange: dict[str, list[int]] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    # How many fields there are that are no columns, and their bytes; counted once, and on from there.
    _own: tuple[int, int] | None = None
    _strange_bytes: int | None = None

    def accept(self, names: tuple[str, ...], rows: NDArray[np.int64], times: NDArray[np.int64], room: NameRoom) -> None:
        """Count accepted records that have the same names.

        Of records that `passed` will count together the accepted ones come first, then the refused ones, both in the order of their first rows.

        Parameters
        ----------
        rows, times
            Their places among the records in JSON that `passed` will count, and their journal times, shape (n,).
        """
        first, first_ms = self.rows + int(rows[0]), int(times[0])
        for name in map(_short, names):
            stand = self.stands.get(name)
            if stand is None:
                if not self._takes(name, room):
                    continue
                stand = self.stands[name] = FieldStand(first, first_ms, "new")
            elif stand.status == "gone":
                stand.begun, stand.first_ms, stand.seen, stand.status = first, first_ms, 0, "new"
            self._count(stand, rows, times, 0)

    def refuse(self, names: tuple[str, ...], rows: NDArray[np.int64], times: NDArray[np.int64], room: NameRoom) -> None:
        """Count refused records that have the same names: see `accept`."""
        for name in map(_short, names):
            stand = self.stands.get(name)
            strange = len(rows) if stand is None or stand.status == "gone" else int(np.searchsorted(rows, stand.begun - self.rows))
            if strange:
                self._wonder(name, strange, int(times[0]), room)
            if stand is not None and strange < len(rows):
                self._count(stand, rows[strange:], times[strange:], len(rows) - strange)

    def _count(self, stand: FieldStand, rows: NDArray[np.int64], times: NDArray[np.int64], refused: int) -> None:
        stand.last, stand.last_ms = max(stand.last, self.rows + int(rows[-1])), max(stand.last_ms, int(times[-1]))
        stand.seen, stand.today, stand.refused = stand.seen + len(rows), stand.today + len(rows), stand.refused + refused

    def _takes(self, name: str, room: NameRoom) -> bool:
        """Say whether there is room for one more field of the stream."""
        if name in room.columns:
            return True
        if self._own is None:
            sizes = [_bytes(one) for one in self.stands if one not in room.columns]
            self._own = len(sizes), sum(sizes)
        fields, size = self._own
        if fields >= _MOST_FIELDS or (size := size + _bytes(name)) > room.own_bytes:
            return False
        self._own = fields + 1, size
        return True

    def _wonder(self, name: str, records: int, first_ms: int, room: NameRoom) -> None:
        """Count a name of refused records."""
        if name not in self.strange:
            # None gives its room back within the day, so that what one record does does not depend on which came in the same step.
            size = self._strange_bytes if self._strange_bytes is not None else sum(map(_bytes, self.strange))
            if len(self.strange) >= _MOST_STRANGE or (size := size + _bytes(name)) > room.strange_bytes:
                return
            self.strange[name], self._strange_bytes = [0, first_ms], size
        self.strange[name][0] += records

    def passed(self, rows: int) -> None:
        """Take note that so many records in JSON have been counted."""
        self.rows, self.today = self.rows + rows, self.today + rows

    def close(self, columns: Mapping[str, str], room: NameRoom) -> FieldsChanged | None:
        """Return what the day has brought; columns of the application by name."""
        if not self.today:
            return None
        changes: list[tuple[FieldChange, int, int, int]] = []
        for name in sorted(self.stands.keys() | self.strange.keys()):
            stand, column = self.stands.get(name), columns.get(name, "")
            refused, since = self.strange.get(name, (0, 0))
            is_new = stand is not None and stand.status == "new"
            if is_new or (refused and (stand is None or stand.status == "gone")):
                seen, all_refused, first_ms = (stand.today, stand.refused, stand.first_ms) if stand is not None and is_new else (0, 0, since)
                if self.learned and name not in self.told:
                    change = FieldChange(name, "added", "", "", column, "read" if column else "none")
                    changes.append((change, min(first_ms, since) if refused else first_ms, seen + refused, all_refused + refused))
            elif stand is not None and stand.status == "usual" and stand.is_missed(self.rows):
                stand.status = "gone"
                missed = min(self.rows - 1 - stand.last, self.today)
                changes.append((FieldChange(name, "dropped", "", "", column, "lost" if column else "none"), stand.last_ms, missed, 0))
        for stand in self.stands.values():
            stand.status = "usual" if stand.status == "new" else stand.status
            stand.today = stand.refused = 0
        self._forget(room)
        self.learned, self.today = self.learned or self.rows >= _LEARNED_ROWS, 0
        if not changes:
            return None
        told, since_ms, records, refused_records = zip(*changes, strict=True)
        return FieldsChanged(told, min(since_ms), max(records), max(refused_records))

    def _forget(self, room: NameRoom) -> None:
        """Keep of the day's strange names only that they have been told, of the last ones."""
        usual = {name for name, stand in self.stands.items() if stand.status == "usual"}
        told = [name for name in dict.fromkeys([*self.told, *self.strange]) if name not in usual][-_MOST_STRANGE:]
        while sum(map(_bytes, told)) > room.strange_bytes:
            told.pop(0)
        self.told, self.strange, self._strange_bytes = told, {}, 0

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists, texts and numbers."""
        stands = {name: [getattr(stand, one) for one in FieldStand.__slots__] for name, stand in self.stands.items()}
        strange = {name: list(counts) for name, counts in self.strange.items()}
        return {"rows": self.rows, "today": self.today, "learned": self.learned, "stands": stands, "strange": strange, "told": list(self.told)}

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> "JsonFields":
        """From a snapshot; one without strange names is older than these."""
        stands = {_short(name): FieldStand(**dict(zip(FieldStand.__slots__, values, strict=True))) for name, values in state["stands"].items()}
        strange = {name: list(counts) for name, counts in state.get("strange", {}).items()}
        return cls(state["rows"], state["today"], state["learned"], stands, strange, list(state.get("told", ())))


def _bytes(name: str) -> int:
    """Return what a name takes in a snapshot, its numbers included."""
    return len(json.dumps(name)) + _STAND_BYTES


def _short(name: str) -> str:
    """Return as much of a name as a hundred bytes of JSON hold for sure: a letter may take up to twelve."""
    name = name[:_MOST_BYTES]
    if len(name) * 12 <= _MOST_BYTES or (name.isascii() and name.isprintable() and '"' not in name and "\\" not in name):
        return name
    return name if len(json.dumps(name)) - 2 <= _MOST_BYTES else name[: _MOST_BYTES // (12 if max(name) > "\uffff" else 6)]
