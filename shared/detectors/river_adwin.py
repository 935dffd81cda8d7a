"""River's ADWIN, with its state as plain bytes."""

import base64
from typing import Any

from tidemill.shared.detectors.detector import Change, Values, checked
from tidemill.shared.detectors.river_drift import ADWIN

# River's bytes begin with the detector's parameters: delta, clock, buckets of a size, shortest part, values before the first check.
_PARAMETERS = slice(0, 36)


class RiverAdwin:
    """ADWIN (Bifet and Gavalda, 2007), the adaptive window that shrinks when its halves disagree, as river implements it.

    River's compiled window gives and takes its state as bytes (a flat binary record, no pickle: loading one runs no code). After a change the window
    starts anew with the next value, as in river.

    Parameters
    ----------
    delta
        Significance of one check.

    Examples
    --------
    >>> detector = RiverAdwin()
    >>> [(change.row, change.width_before, change.width_after) for change in detector.update([0.1] * 500 + [0.9] * 100)]
    [(543, 543, 64)]
    """

    name = "adwin"
    bits = False

    def __init__(self, delta: float = 0.002) -> None:
        self.delta = delta
        self._river = ADWIN(delta=delta)
        # River starts anew with the value after a change: until then its window still shows what was kept.
        self._changed = False

    def update(self, values: Values, expected: Values | None = None) -> list[Change]:
        """Absorb values in order and report the changes."""
        changes, river = [], self._river
        for row, value in enumerate(checked(self.name, values, self.bits).tolist()):
            mean, width = (0.0, 0) if self._changed else (river.estimation, river.width)
            river.update(value)
            self._changed = river.drift_detected
            if self._changed:
                changes.append(Change(row, mean, int(width), river.estimation, int(river.width)))
        return changes

    def reset(self) -> None:
        """Forget everything."""
        self._river = ADWIN(delta=self.delta)
        self._changed = False

    def snapshot(self) -> dict[str, Any]:
        """State: river's bytes in base 64, and whether the last value was a change."""
        window = self._river._helper.__getstate__()  # noqa: SLF001 - river has no public way; `check_river` holds it to what is expected
        return {"window": base64.b64encode(window).decode(), "changed": self._changed}

    def load(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot.

        Raises
        ------
        ValueError
            It is no state of river's window.
        """
        self.reset()
        if state["changed"]:
            # The next value starts a new window in any case, so that what was kept no longer matters.
            self._changed = True
            return
        helper = self._river._helper  # noqa: SLF001
        window = base64.b64decode(state["window"])
        if window[_PARAMETERS] != helper.__getstate__()[_PARAMETERS]:
            raise ValueError(f"expected a state of river's ADWIN with delta {self.delta}, found {window[:40]!r}")
        try:
            helper.__setstate__(window)
        except BaseException as problem:
            # What is cut short makes river's compiled code panic, and a panic is no `Exception`.
            if isinstance(problem, KeyboardInterrupt | SystemExit):
                raise
            raise ValueError(f"expected a state of river's ADWIN, found {len(window)} bytes: {problem}") from problem
        if helper.__getstate__() != window:
            raise ValueError(f"expected a state of river's ADWIN, found {len(window)} bytes that say something else once they are read")
