"""Finds all records of a stretch that a task does not survive, with one restore: by scouts."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.child_watch import Ending
from tidemill.shared.runner.scouts import Scouts

# Pieces of a stretch at first; singles after a culprit before steps grow again; steps that are made again at most when a scout dies.
SHARE = 32
# Culprits after which a walk by scouts that are not forks is cut short: each costs them once more all that was survived since it began.
MOST_CULPRITS = 32
# Once it is known how long steps take, one that takes much longer is given up sooner; not when it decides.
MUCH_LONGER, AT_LEAST_S = 20.0, 10.0


@dataclass(frozen=True, slots=True)
class Found:
    """What scouts have found.

    Attributes
    ----------
    culprits
        Rows of the stretch that ended a scout twice in a step of their own, and how.
    size
        Records of the smallest step; without culprits the task gets over the stretch in steps of this size.
    stopped_at, how, alone
        Row before which a scout has ended without telling which record did it (the task holds some back, or had no new one), how, and whether that
        row alone was new; -1: none.
    cut_at
        Row before which everything is survived or a culprit, where the walk was cut short; -1: it went to the end.
    """

    culprits: Sequence[tuple[int, str]]
    size: int
    stopped_at: int = -1
    how: str = ""
    alone: bool = False
    cut_at: int = -1


@dataclass(slots=True)
class ForkedWalk:
    """Goes through a stretch of records; a scout stands before it.

    A scout that dies of a step of several records is followed by one that takes them in a 32nd, or one by one; that of a single one by another that
    confirms. Then the base is told to pass the culprit over, and the walk goes on behind it with steps of one that grow. So a culprit costs a few
    forks, and each record is given to the task a few times, however many culprits there are. Scouts that are not forks are given again what was
    survived: they find `MOST_CULPRITS` in one walk, and the next one begins behind them, so that work does not grow with the square of their number.

    Parameters
    ----------
    total
        Records of the stretch.
    """

    scouts: Scouts
    total: int
    _first: int = 1
    _size: int = 1
    _smallest: int = 1
    _calm: int = 0
    _begin: int = 0
    _new: int = 0
    _alone: int = -1
    _unpassable: int = -1
    _silence_s: float | None = None
    _sure: list[tuple[int, int]] = field(default_factory=list)
    _culprits: list[tuple[int, str]] = field(default_factory=list)

    def find(self) -> Found:
        """Go through the stretch, and make a step without new records at its end.

        Raises
        ------
        EOFError, ConnectionError
            The base has ended.
        """
        self._first = self._size = self._smallest = max(1, self.total // SHARE)
        while True:
            begin, end = self._begin, self._next_end()
            ending = self.scouts.give(begin, end, self._silence_s if self._new != self._alone else None)
            if not ending.survived:
                stop = self._lose(begin, end, ending)
                if stop is not None:
                    return stop
                self.scouts.stand()
            elif begin == end or end == self._new == self.total:
                return Found(self._culprits, self._smallest)
            else:
                self._pass(begin, end, ending)

    def _next_end(self) -> int:
        """Culprits that follow each other are passed over with what comes behind them, or by themselves once they are many."""
        if self._new - self._begin >= SHARE and self._unpassable != self._begin:
            return self._new
        return min(self._new + self._size, self.total)

    def _pass(self, begin: int, end: int, ending: Ending) -> None:
        self._sure.append((begin, end))
        self._silence_s = max(self._silence_s or AT_LEAST_S, MUCH_LONGER * (ending.took_s or 0.0))
        if end > self._new:
            self._calm += 1
            if self._calm >= SHARE and self._size < self._first:
                self._size = min(self._first, 2 * self._size)
        self._begin, self._new, self._alone = end, max(end, self._new), -1
        if len(self._sure) >= SHARE:
            self._settle()

    def _settle(self) -> None:
        """Make what the scout has survived the base's state."""
        self.scouts.advance()
        self._sure = []
        self.scouts.stand()

    def _lose(self, begin: int, end: int, ending: Ending) -> Found | None:
        """Have the base stand before the step that the scout died in, and narrow it; what was found if that is the end."""
        begin, end = self._stand_before(begin, end)
        new = max(begin, self._new) if begin == self._begin else begin
        self._begin, self._new = begin, new
        how = ending.how or ""
        if end == new:
            if new < self.total and self._unpassable != begin:
                self._unpassable = begin
                return None
            return Found(self._culprits, self._smallest, new, how)
        if end - new > 1:
            self._size, self._calm, self._alone = max(1, (end - new) // SHARE), 0, -1
            self._smallest = min(self._smallest, self._size)
            return None
        if ending.holding:
            return Found(self._culprits, self._smallest, new, how, alone=True)
        if self._alone != new:
            self._alone, self._size, self._calm, self._smallest = new, 1, 0, 1
            return None
        self._culprits.append((new, how))
        self.scouts.condemn(new, how)
        self._new, self._alone, self._size, self._calm = new + 1, -1, 1, 0
        if len(self._culprits) >= MOST_CULPRITS and self._new < self.total and not self.scouts.forks:
            return Found(self._culprits, self._smallest, cut_at=self._new)
        return None

    def _stand_before(self, begin: int, end: int) -> tuple[int, int]:
        """Bring the base to the step in which a scout died, or to an earlier one if another scout dies of that; the step."""
        if not self._sure:
            return begin, end
        self.scouts.stand()
        for number, step in enumerate(self._sure):
            if not self.scouts.give(*step, None).survived:
                del self._sure[number:]
                return self._stand_before(*step)
        self.scouts.advance()
        self._sure = []
        return begin, end


def last_offsets(records: Sequence[Records], end: int) -> dict[TopicPartition, int]:
    """Last offset per input of the first `end` records of runs."""
    offsets = {}
    for one in records:
        part = one[: max(0, end)]
        end -= len(part)
        if len(part):
            offsets[TopicPartition(one.topic, one.partition)] = int(part.offsets[-1])
    return offsets


def record_at(records: Sequence[Records], row: int) -> Records:
    """Return one record of runs, a batch of one."""
    for one in records:
        if row < len(one):
            return one[row : row + 1]
        row -= len(one)
    raise IndexError(f"expected a row of {sum(map(len, records))} records, got one {row} beyond them")
