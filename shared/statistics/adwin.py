"""ADWIN, the adaptive window of Bifet and Gavalda, with a state that can be written down exactly."""

from dataclasses import dataclass, field
from math import fabs, log, sqrt
from typing import Any


@dataclass(frozen=True, slots=True)
class Change:
    """A detected change: row of the batch it came at, mean and length of the window before it, and of what was kept."""

    row: int
    mean_before: float
    width_before: int
    mean_after: float
    width_after: int


@dataclass(slots=True)
class Adwin:
    """Detects a change of the mean of a bounded value (a loss in [0, 1]) with a window that shrinks when its halves disagree.

    The algorithm, including its order of floating-point operations, is river's `drift.ADWIN` (the tests hold it to that). It is kept here
    because river's state cannot be saved without pickle, and because a batch at a time is what the pipeline has.

    Parameters
    ----------
    delta
        Significance of one check.
    clock
        Values between checks.
    max_buckets
        Buckets per size before two are merged.
    min_window_length, grace_period
        Shortest part compared, and values before the first check.

    References
    ----------
    Bifet, Gavalda: Learning from time-changing data with adaptive windowing. SDM 2007.
    """

    delta: float = 0.002
    clock: int = 32
    max_buckets: int = 5
    min_window_length: int = 5
    grace_period: int = 10
    rows: list[list[tuple[float, float]]] = field(default_factory=lambda: [[]])
    total: float = 0.0
    variance: float = 0.0
    width: int = 0
    tick: int = 0
    changed: bool = False

    @property
    def mean(self) -> float:
        """Mean of the window; 0 while it is empty."""
        return self.total / self.width if self.width else 0.0

    def reset(self) -> None:
        """Forget everything."""
        self.rows, self.total, self.variance, self.width, self.tick, self.changed = [[]], 0.0, 0.0, 0, 0, False

    def update(self, values: "list[float]") -> list[Change]:
        """Absorb values in order and report the changes; after one, the window starts anew with the next value (as in river)."""
        changes = []
        for row, value in enumerate(values):
            if self.changed:
                self.reset()
            mean, width = self.mean, self.width
            self._insert(value)
            self.tick += 1
            if self.tick % self.clock == 0 and self.width > self.grace_period and self._shrink():
                self.changed = True
                changes.append(Change(row, mean, width, self.mean, self.width))
        return changes

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists and numbers; JSON keeps every bit of its floats."""
        names = ("total", "variance", "width", "tick", "changed")
        return {"rows": [[list(bucket) for bucket in row] for row in self.rows], **{name: getattr(self, name) for name in names}}

    def load(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.rows = [[(bucket[0], bucket[1]) for bucket in row] for row in state["rows"]]
        self.total, self.variance = state["total"], state["variance"]
        self.width, self.tick, self.changed = state["width"], state["tick"], state["changed"]

    def _insert(self, value: float) -> None:
        self.rows[0].append((value, 0.0))
        self.width += 1
        if self.width > 1:
            distance = value - self.total / (self.width - 1)
            self.variance += (self.width - 1) * distance * distance / self.width
        self.total += value
        level = 0
        while len(self.rows[level]) == self.max_buckets + 1:
            if level + 1 == len(self.rows):
                self.rows.append([])
            size = float(2**level)
            (first, first_variance), (second, second_variance) = self.rows[level][:2]
            gap = first / size - second / size
            self.rows[level + 1].append((first + second, first_variance + second_variance + size * size * gap * gap / (size + size)))
            del self.rows[level][:2]
            level += 1

    def _drop_oldest(self) -> None:
        size = float(2 ** (len(self.rows) - 1))
        total, variance = self.rows[-1].pop(0)
        self.width -= int(size)
        self.total -= total
        gap = total / size - self.total / self.width
        self.variance -= variance + size * self.width * gap * gap / (size + self.width)
        if not self.rows[-1]:
            self.rows.pop()

    def _shrink(self) -> bool:
        found = False
        while self._disagrees():
            found = True
            self._drop_oldest()
        return found

    def _disagrees(self) -> bool:
        old, old_total, new, new_total = 0.0, 0.0, float(self.width), self.total
        bound = log(2.0 * log(self.width) / self.delta)
        spread = self.variance / self.width
        shortest = self.min_window_length
        for level in range(len(self.rows) - 1, -1, -1):
            size = float(2**level)
            row = self.rows[level]
            for total, _ in row[: len(row) - 1] if level == 0 else row:
                old += size
                new -= size
                old_total += total
                new_total -= total
                if new < shortest:
                    return False
                if old < shortest:
                    continue
                reciprocal = 1.0 / (old - shortest + 1) + 1.0 / (new - shortest + 1)
                epsilon = sqrt(2.0 * reciprocal * spread * bound) + 2.0 / 3.0 * bound * reciprocal
                if fabs(old_total / old - new_total / new) > epsilon:
                    return True
        return False
