"""A flood of records that are refused is slow, not deadly: when a task's input is one, and how much of it a step takes then."""

from collections.abc import Sequence
from dataclasses import dataclass

# A step of a flood takes about so long, whatever a record of it costs: good records among it, and other partitions, wait no longer.
_STEP_S = 0.05
_LEAST = 50
# Of a step before which none was measured.
_FIRST = 500
# The flood is over when the share has fallen to this part of the limit.
_OVER = 0.5


@dataclass(frozen=True, slots=True)
class FloodLimits:
    """Beyond which the refused records of a task are a flood.

    Attributes
    ----------
    share, window
        Share of about the last `window` input records.
    row
        Records in a row, steps in which all input was refused counting as a row.
    """

    share: float = 0.5
    window: int = 10_000
    row: int = 100_000


@dataclass(frozen=True, slots=True)
class Refusals:
    """How many of a task's input records became dead letters lately: a fold over committed steps, kept in the progress record.

    Attributes
    ----------
    read, refused
        Records of the window; halved when it is twice full, so that old ones fade.
    row
        Refused without a good one between.

    Examples
    --------
    >>> limits = FloodLimits(share=0.5, window=100)
    >>> one = Refusals().after(100, 80, limits)
    >>> one.flooded, one.after(1_000, 0, limits).flooded
    (True, False)
    """

    read: int = 0
    refused: int = 0
    row: int = 0
    flooded: bool = False

    def after(self, read: int, refused: int, limits: FloodLimits) -> "Refusals":
        """Return the counts after another committed step; nothing is counted before the first refusal."""
        if not refused and not self.refused:
            return self
        if not read and not refused:
            return self
        total, bad = self.read + max(read, refused), self.refused + refused
        row = self.row + refused if refused >= read else 0
        while total >= 2 * limits.window:
            total, bad = total // 2, bad // 2
        full = total >= limits.window
        if self.flooded:
            flooded = row > limits.row or bad > _OVER * limits.share * total
        else:
            flooded = row > limits.row or (full and bad > limits.share * total)
        return Refusals(total, bad, row, flooded) if bad else Refusals()

    def to_list(self) -> list[int]:
        """Return what the progress record holds; nothing while nothing was refused."""
        return [self.read, self.refused, self.row, int(self.flooded)] if self != Refusals() else []

    @classmethod
    def of_list(cls, values: Sequence[int]) -> "Refusals":
        """Refusals of a progress record."""
        return cls(values[0], values[1], values[2], bool(values[3])) if len(values) == 4 else cls()


class Throttle:
    """How many records a step takes while its input is a flood: as many as it got through in about 50 ms."""

    def __init__(self) -> None:
        self._record_s = 0.0

    def observe(self, records: int, took_s: float) -> None:
        """Take note of what a step cost."""
        if records:
            self._record_s = took_s / records

    def limit(self, usual: int) -> int:
        """Records of the next step."""
        if not self._record_s:
            return min(_FIRST, usual)
        return max(min(_LEAST, usual), min(usual, int(_STEP_S / self._record_s)))
