"""Labels of one model that came before their requests, in journal order."""

from typing import Any

from tidemill.services.outcomes.domain.identity_index import IdentityIndex
from tidemill.services.outcomes.domain.packed_rows import PackedRows
from tidemill.services.outcomes.domain.request import At, TimedLabel

_COLUMNS = (
    ("offset", "i8"),
    ("time_ms", "i8"),
    ("value", "f8"),
    ("event_time_ms", "i8"),
    ("waits", "u1"),
    ("next", "u4"),
    ("last", "u4"),
)
_ROW_MASK = 0xFFFFFFFF


class EarlyLabels:
    """Labels by the id of the request that they wait for: 39 bytes each, the id's text, and 10 to 14 bytes of the index.

    Labels of one request are linked in the order in which they came: each names the next one (the last names itself), and the first of them, which
    is the one that the index finds, the last one. So a publisher that sends one wrong id for ever costs what different ones would.
    """

    def __init__(self) -> None:
        self._rows = PackedRows(_COLUMNS)
        self._index = IdentityIndex(lambda lower, identity: self._rows.is_named(self._rows.number(lower), identity))

    def __len__(self) -> int:
        return len(self._rows)

    def waiting(self) -> list[str]:
        """Return the ids that are waited for, one for each label."""
        return [self._rows.identity(row) for row in range(self._rows.first, self._rows.end) if self._rows.get(row)[4]]

    def waits_for(self, identity: str) -> bool:
        """Whether a label waits for a request."""
        return self._index.find(identity) >= 0

    def add(self, identity: str, label: TimedLabel, at: At) -> None:
        """Remember a label."""
        lower = self._index.find(identity)
        row = self._rows.end
        value, event_time_ms, name = label
        common = at.partition, name
        self._rows.append(identity, common, at.offset, at.time_ms, value, event_time_ms, True, row & _ROW_MASK, row & _ROW_MASK)
        if lower < 0:
            self._index.add(identity, row)
        else:
            head = self._rows.number(lower)
            self._rows.set(self._rows.number(self._rows.get(head)[6]), "next", row & _ROW_MASK)
            self._rows.set(head, "last", row & _ROW_MASK)

    def take(self, identity: str) -> list[tuple[TimedLabel, At]]:
        """Return the labels that wait for a request, which has come; they wait no longer."""
        lower = self._index.find(identity)
        if lower < 0:
            return []
        row = self._rows.number(lower)
        self._index.remove(identity, row)
        labels = []
        while True:
            offset, time_ms, value, event_time_ms, _, following, _ = self._rows.get(row)
            self._rows.set(row, "waits", False)
            partition, name = self._rows.repeated(row)
            labels.append((TimedLabel(value, event_time_ms, name), At(time_ms, partition, offset)))
            if following == row & _ROW_MASK:
                return labels
            row = self._rows.number(following)

    def oldest(self) -> tuple[At, bool]:
        """Return where the oldest label stands, and whether it still waits."""
        row = self._rows.first
        offset, time_ms, _, _, waits, _, _ = self._rows.get(row)
        return At(time_ms, self._rows.repeated(row)[0], offset), bool(waits)

    def give_up_oldest(self) -> tuple[str, TimedLabel]:
        """Let go of the oldest label and return it."""
        row = self._rows.first
        _, _, value, event_time_ms, waits, following, last = self._rows.get(row)
        identity, name = self._rows.identity(row), self._rows.repeated(row)[1]
        if waits:
            if following == row & _ROW_MASK:
                self._index.remove(identity, row)
            else:
                heir = self._rows.number(following)
                self._index.replace(identity, row, heir)
                self._rows.set(heir, "last", last)
        self._rows.forget_first()
        return identity, TimedLabel(value, event_time_ms, name)

    def between(self, low: int, high: int) -> list[tuple[Any, ...]]:
        """Return the labels with journal offsets in [low, high) that wait, each as id, the fields of `At`, and those of the label."""
        return [
            (identity, time_ms, partition, offset, value, event_time_ms, name)
            for columns in self._rows.between(low, high)
            for identity, (partition, name), offset, time_ms, value, event_time_ms, waits, _, _ in zip(*columns, strict=True)
            if waits
        ]
