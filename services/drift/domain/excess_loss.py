"""Whether a model errs more than its own probabilities promise, day by day."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.services.drift.domain.day_standards import CalibratedDays, DayStandard
from tidemill.services.drift.domain.last_rows import LastRows
from tidemill.services.drift.domain.promise import PromiseErrors

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
DAY_MS = 86_400_000
_SHIFTS = (0.25, 0.5, 1.0)
_LEAST_ROWS = 30
_QUIET_DAYS = 14
_JUDGED_DAYS, _ERRING = 3, 3.0
MOST_LABELS = 1_000_000
"""How many labels the days of a model hold in all, of 64 bytes each."""
_OFFSET_BITS = 44
# Of a label, as `PromiseErrors.columns` has them.
_COLUMNS = 5


@dataclass(frozen=True, slots=True)
class Excess:
    """An alarm: the run of days that raised it.

    Attributes
    ----------
    statistic, bound
        The sum that crossed its bound.
    days, labels
        Of the run.
    loss
        Mean excess loss of the run.
    promised, came
        Mean of what was promised and of what came: of two classes score and label, of more the error rate.
    spread
        Variance of a day's mean, in units of that of independent rows.
    """

    statistic: float
    bound: float
    days: int
    labels: int
    loss: float
    promised: float
    came: float
    spread: float


def cusum_bound(shift: float, days: float) -> float:
    """Return the bound of a CUSUM of standard normal values with that reference shift, for a mean of so many values between false alarms.

    References
    ----------
    Siegmund: Sequential analysis. Springer 1985 (the corrected diffusion approximation).

    >>> round(cusum_bound(0.5, 930), 1)
    5.0
    """
    low, high = 0.0, 700.0 / (2 * shift)
    for _ in range(100):
        middle = (low + high) / 2
        b = 2 * shift * (middle + 1.166)
        low, high = (middle, high) if (np.exp(b) - b - 1) / (2 * shift**2) < days else (low, middle)
    return low


def request_ids(partition: Int64, offset: Int64) -> Int64:
    """Return what tells requests apart, as one integer each: journal partition and offset."""
    return (partition << _OFFSET_BITS) + offset


@dataclass(slots=True)
class ExcessLoss:
    """Detector on excess loss, (y - p)^2 - p (1 - p) = (y - p) (1 - 2 p), in blocks of a day of requests.

    The squared error of a perfect model moves with the base rate: over a year of flights, labels drawn from a model's own scores ring ADWIN
    dozens of times. Its excess loss has mean zero whatever the base rate. Rows of one day share weather, so a day's mean is one observation; its
    variance is that of independent rows times a spread, which the differences of the last days tell (by one, two and three days, the
    largest: a change of level moves few of them). A regression promises nothing, so its days are held against those before. The standardised
    days go into three one-sided CUSUMs for small, medium and large shifts; each rings so rarely that together a calibrated model rings once in
    `false_alarm_days`.

    A day is looked at when its label horizon has passed: before that the known labels are the early ones, which are not a fair sample. A label that
    comes after its day was looked at counts with the next day; one that replaces a label that was counted, with the difference. After an alarm
    the sums begin anew, and for 14 days none is given; the spread is kept, also by the next champion.

    Parameters
    ----------
    false_alarm_days
        Mean days between two alarms of a calibrated model.
    remembered_ms
        How long after its end a day's labels may still be replaced; they are kept for that long.
    most
        Labels of a day from which on it is a sample of them: see `RequestSample`.
    standard
        What a day is held against.

    Attributes
    ----------
    erring
        After an alarm, until the next champion: how far the last three days lay from what was there before it.
    """

    false_alarm_days: float = 3650.0
    remembered_ms: int = 0
    most: int = MOST_LABELS
    blocks: dict[int, LastRows] = field(default_factory=dict)
    judged: dict[int, LastRows] = field(default_factory=dict)
    closed_until: int = -(2**62)
    sums: list[float] = field(default_factory=lambda: [0.0] * len(_SHIFTS))
    runs: list[list[float]] = field(default_factory=lambda: [[0.0] * 5 for _ in _SHIFTS])
    carried: list[float] = field(default_factory=lambda: [0.0] * (1 + _COLUMNS))
    quiet: int = 0
    erring: list[float] | None = None
    standard: DayStandard = field(default_factory=CalibratedDays)

    def absorb(self, ids: Int64, request_ms: Int64, kept: PromiseErrors, revision: Int64) -> None:
        """Take labels of requests; a further label of a request replaces the one before it."""
        days, rows = request_ms // DAY_MS, kept.columns()
        for day in np.unique(days).tolist():
            chosen = np.flatnonzero(days == day)
            if day >= self.closed_until:
                self.blocks.setdefault(day, LastRows(self.most, _COLUMNS)).absorb(ids[chosen], rows[chosen])
        for row in np.flatnonzero(days < self.closed_until).tolist():
            self._late(int(days[row]), int(ids[row]), rows[row], corrects=bool(revision[row] > 0))

    def close(self, time_ms: int, horizon_ms: int) -> Excess | None:
        """Look at the days whose horizon had passed at an instant; the first alarm among them."""
        ready = (time_ms - horizon_ms) // DAY_MS
        first_alarm = None
        for day in sorted(day for day in self.blocks if day < ready):
            labels = self.blocks.pop(day)
            block = [float(len(labels)), *labels.ordered().sum(axis=0).tolist()]
            self.carried = [one + more for one, more in zip(self.carried, block, strict=True)]
            if self.remembered_ms:
                self.judged[day] = labels
            if self.carried[0] >= _LEAST_ROWS:
                alarm = self._observe(self.carried)
                self.carried = [0.0] * len(self.carried)
                first_alarm = first_alarm or alarm
        self.closed_until = max(self.closed_until, ready)
        self.judged = {day: one for day, one in self.judged.items() if (day + 1) * DAY_MS + self.remembered_ms > time_ms}
        return first_alarm

    def reset(self) -> None:
        """Begin anew for a new champion; how much days differ is kept."""
        self.blocks, self.judged, self.carried, self.quiet, self.erring = {}, {}, [0.0] * len(self.carried), 0, None
        self._begin()

    def hush(self) -> None:
        """Begin anew after a verdict of others: for 14 days no alarm is given."""
        self._begin()
        self.quiet, self.erring = _QUIET_DAYS, self.erring or []

    @property
    def level(self) -> float | None:
        """How much the champion still errs after an alarm, 1 at three standard deviations; None before any alarm, 1 as long as it is not known."""
        if self.erring is None:
            return None
        if len(self.erring) < _JUDGED_DAYS:
            return 1.0
        return max(0.0, float(sum(self.erring) / np.sqrt(_JUDGED_DAYS)) / _ERRING)

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists, numbers and texts."""
        days = {name: [[day, one.snapshot()] for day, one in sorted(getattr(self, name).items())] for name in ("blocks", "judged")}
        plain = {name: getattr(self, name) for name in ("closed_until", "sums", "runs", "carried", "quiet", "erring")}
        return {**plain, **days, "standard": self.standard.snapshot()}

    def load(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.blocks = {day: LastRows.load(saved, self.most, _COLUMNS) for day, saved in state["blocks"]}
        self.judged = {day: LastRows.load(saved, self.most, _COLUMNS) for day, saved in state["judged"]}
        self.closed_until, self.quiet = state["closed_until"], state["quiet"]
        self.sums, self.carried = list(state["sums"]), list(state["carried"])
        self.standard.load(state["standard"])
        self.runs = [list(run) for run in state["runs"]]
        self.erring = None if state["erring"] is None else list(state["erring"])

    def _late(self, day: int, request: int, row: Float64, corrects: bool) -> None:
        """Let a label of a day that was looked at count with the next: as the difference to the one it replaces, or as a row more."""
        more = [1.0, *row.tolist()]
        kept = self.judged.get(day)
        if kept is None and corrects:
            return
        if kept is not None:
            if not kept.holds(request):
                # One of those that the sample of its day is without.
                return
            before = kept.replace(request, row)
            if before is not None:
                excess, _, _, came, _ = (row - before).tolist()
                more = [0.0, excess, 0.0, 0.0, came, 0.0]
        self.carried = [one + add for one, add in zip(self.carried, more, strict=True)]

    def _observe(self, block: list[float]) -> Excess | None:
        rows, excess, _, promised, came, _ = block
        value = self.standard.value(block)
        self.quiet = max(0, self.quiet - 1)
        beyond = self.standard.beyond_before(block, value)
        if self.erring is not None and beyond is not None:
            self.erring = [*self.erring, float(beyond)][-_JUDGED_DAYS:]
        if value is None:
            return None
        alarm = None
        for i, shift in enumerate(_SHIFTS):
            self.sums[i] = max(0.0, self.sums[i] + value - shift)
            # A run: its days, rows, excess, scores and positives since the sum was last zero.
            more = [1.0, rows, excess, promised, came]
            self.runs[i] = [one + add for one, add in zip(self.runs[i], more, strict=True)] if self.sums[i] else [0.0] * 5
            bound = cusum_bound(shift, len(_SHIFTS) * self.false_alarm_days)
            if alarm is None and self.sums[i] > bound and not self.quiet:
                days, labels, total, scores, positives = self.runs[i]
                alarm = Excess(self.sums[i], bound, int(days), int(labels), total / labels, scores / labels, positives / labels, self.standard.spread)
        if alarm is not None:
            self.hush()
        return alarm

    def _begin(self) -> None:
        self.sums, self.runs = [0.0] * len(_SHIFTS), [[0.0] * 5 for _ in _SHIFTS]
        self.standard.begin()
