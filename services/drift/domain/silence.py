"""Whether a stream went silent within a window: what is left of the window then is no measure of its rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

HOURS = 24
_WINDOWS_KEPT = 56
# Two of every weekday: one of them is among the later half, whatever day the first one was.
_LEAST_WINDOWS = 14
_SAME_WEEKDAY = 3
_REACH = 1.5
_PATIENCE = 28
_LEAST_SHARE = 0.25
_LEAST_ROWS = 20.0


@dataclass(frozen=True, slots=True)
class Pause:
    """What came of a stream before it went silent, and what usually comes after.

    Attributes
    ----------
    hour
        From which hour of the window on nothing came; 0 in an empty window.
    usual_before, usual_after
        Rows that usually come before and after that.
    share, bound
        Share of a window's rows that usually come after, and the bound of that.
    lasts
        Whether the window is the second in a row that is empty and silent.
    """

    hour: int
    rows: int
    usual_before: float
    usual_after: float
    share: float
    bound: float
    lasts: bool

    @property
    def is_silent(self) -> bool:
        """Whether more of the window is silent than ever was usual."""
        return self.share > self.bound

    @property
    def hides_volume(self) -> bool:
        """Whether the rows of the window say nothing of the pace at which rows come: as many as usual came until the stream went silent."""
        return self.is_silent and not self.lasts and 2 * self.rows >= self.usual_before


@dataclass(slots=True)
class Silence:
    """Rows of a stream by hour of the window, held against the windows before.

    What usually comes until an hour is the median of the same weekday where there are three, else of all of the last 56 windows. A stream is silent
    when more of a window is left without a row than a quarter of its usual rows (and twenty of them), and than one and a half times what the later
    half of the windows had: a shop that is closed on Sundays is not silent then. Nothing is said
    before 14 windows. A silent window is not learned from, until the 28th in a row.

    Memory: 56 windows of 24 counts.
    """

    windows: list[tuple[int, list[int], float]] = field(default_factory=list)
    beyond: int = 0
    was_empty: bool = False

    def close(self, day: int, hours: Sequence[int]) -> Pause | None:
        """Take the rows of a window by hour; None as long as there is nothing to hold them against."""
        counts = list(hours)
        lasts, self.was_empty = self.was_empty and not any(counts), False
        usual = self._usual(day)
        hour = max((number + 1 for number, rows in enumerate(counts) if rows), default=0)
        if usual is None:
            self._keep(day, counts, 0.0)
            return None
        before = float(usual[hour - 1]) if hour else 0.0
        after = float(usual[-1]) - before
        share = after / float(usual[-1]) if after >= _LEAST_ROWS else 0.0
        bound = max(_LEAST_SHARE, _REACH * max(one for _, _, one in self.windows[len(self.windows) // 2 :]))
        is_judged = len(self.windows) >= _LEAST_WINDOWS
        if is_judged and share > bound:
            self.beyond, self.was_empty = self.beyond + 1, not any(counts)
            if self.beyond >= _PATIENCE:
                self.windows.clear()
                self.beyond = 0
                self._keep(day, counts, share)
        else:
            # A day on which nothing is usual ends no row of silent ones.
            self.beyond = 0 if float(usual[-1]) >= _LEAST_ROWS else self.beyond
            self._keep(day, counts, share)
        return Pause(hour, sum(counts), before, after, share, bound, lasts) if is_judged else None

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists and numbers."""
        return {"windows": [list(one) for one in self.windows], "beyond": self.beyond, "was_empty": self.was_empty}

    @staticmethod
    def load(state: Mapping[str, Any]) -> "Silence":
        """From a snapshot."""
        return Silence([(int(day), list(hours), float(share)) for day, hours, share in state["windows"]], state["beyond"], state["was_empty"])

    def _keep(self, day: int, hours: list[int], share: float) -> None:
        self.windows = [*self.windows, (day, hours, share)][-_WINDOWS_KEPT:]

    def _usual(self, day: int) -> Any:
        """Return rows until the end of every hour, shape (24,); None without enough windows."""
        # The first window began somewhere in a day: it is no measure.
        kept = [(when, hours) for when, hours, _ in self.windows[1:]]
        same = [hours for when, hours in kept if (when - day) % 7 == 0]
        chosen = same if len(same) >= _SAME_WEEKDAY else [hours for _, hours in kept]
        return np.median(np.cumsum(np.array(chosen), axis=1), axis=0) if len(chosen) >= _SAME_WEEKDAY else None


def words_of_pause(pause: Pause, stream: str) -> str:
    """Return a sentence about a stream that went silent.

    >>> words_of_pause(Pause(6, 90, 100.0, 800.0, 0.89, 0.25, False), "orders")
    'orders brought nothing from 06:00 of the window on, where usually about 800 rows come'
    """
    if not pause.hour:
        return f"{stream} brought nothing for a whole window, where usually about {pause.usual_after:.0f} rows come"
    return f"{stream} brought nothing from {pause.hour:02d}:00 of the window on, where usually about {pause.usual_after:.0f} rows come"
