"""Keeps the coverage of a regression champion's prediction intervals: follows its residuals, and says how to move the ends."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.services.drift.domain.findings import Coordinates
from tidemill.services.drift.domain.rows import Float64, Int64, OutcomeRows
from tidemill.services.drift.domain.waiting_labels import Labels, WaitingLabels
from tidemill.shared.statistics.interval_tracking import IntervalTracker

LABELS_PER_REVISION = 20
_LEAST_LABELS = 50
_MOST = 2.0


@dataclass(frozen=True, slots=True)
class Revision:
    """What is to be added to the scores of a model's version for the ends of its intervals, from now on (`tidemill.Revision`)."""

    model: str
    at: Coordinates
    sequence: int
    model_version: str
    lower_offset: float
    upper_offset: float
    labels: int

    def record(self) -> dict[str, Any]:
        """Fields of the Avro record."""
        return {
            "model": self.model,
            "journal_partition": self.at.partition,
            "journal_offset": self.at.offset,
            "journal_time": self.at.time_ms,
            "sequence": self.sequence,
            "model_version": self.model_version,
            "lower_offset": self.lower_offset,
            "upper_offset": self.upper_offset,
            "labels": self.labels,
        }


@dataclass(slots=True)
class Intervals:
    """Fold over one champion's labels, in the order of their requests once the label horizon has passed: early labels are biased.

    A label counts once: corrections move nothing, and labels that come after their horizon count when they come. Every 20 labels there is a revision,
    and at once where the bounds leap because the errors have swung.
    Which labels have matured is looked at with every outcome of the model, in merge order, so that batches do not matter.

    Attributes
    ----------
    sequence
        Number of the next revision; it goes on over champions.
    own
        Offsets that the champion has itself.
    waiting
        Labels that wait for their horizon.
    """

    model: str
    version: str | None = None
    sequence: int = 0
    labels: int = 0
    tracker: IntervalTracker = field(default_factory=IntervalTracker)
    own: tuple[float, float] = (float("nan"), float("nan"))
    waiting: WaitingLabels = field(default_factory=WaitingLabels)

    def begin(self, version: str, lower_offset: float, upper_offset: float, at: Coordinates) -> list[Revision]:
        """Begin anew for another champion with the offsets of its first answer; NaN where it has no interval yet.

        What was learned of the champion before is kept as a factor of each end: a training whose intervals came out too wide makes them so again. The
        first revision says so at once.
        """
        factors = self._factors()
        self.version, self.labels, self.own = version, 0, (lower_offset, upper_offset)
        self.tracker = IntervalTracker(lower_offset * factors[0], upper_offset * factors[1], owed=self.tracker.owed)
        self.waiting.clear()
        if factors == (1.0, 1.0) or not (np.isfinite(self.tracker.lower) and np.isfinite(self.tracker.upper)):
            return []
        self.sequence += 1
        return [Revision(self.model, at, self.sequence - 1, version, self.tracker.lower, self.tracker.upper, 0)]

    def _factors(self) -> tuple[float, float]:
        if self.tracker.seen < _LEAST_LABELS:
            return 1.0, 1.0
        ends = ((self.tracker.lower, self.own[0]), (self.tracker.upper, self.own[1]))
        lower, upper = (min(max(now / own, 1 / _MOST), _MOST) if np.isfinite(own) and now * own > 0 else 1.0 for now, own in ends)
        return lower, upper

    def absorb(self, rows: OutcomeRows, mine: Int64, champions: Int64, horizon_ms: int) -> list[Revision]:
        """Take outcomes in merge order.

        Parameters
        ----------
        mine, champions
            Rows of the model, and among them the champion's labels, ascending.
        horizon_ms
            How long after its request a label counts.
        """
        if self.version is None or not mine.size:
            return []
        first = champions[rows.revision[champions] == 0]
        came = Labels(
            np.searchsorted(mine, first),
            rows.request_ms[first],
            rows.at.partition[first],
            rows.request[first],
            rows.label[first],
            rows.score[first],
            rows.predicted[first],
            rows.revision[first],
        )
        ready, due = self.waiting.take(came, rows.at.time_ms[mine], horizon_ms)
        with np.errstate(over="ignore"):
            offsets, leaps = self.tracker.followed(ready["label"] - ready["score"])
        return self._revisions(rows, mine[due], offsets, leaps)

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists and numbers."""
        return {
            "version": self.version,
            "sequence": self.sequence,
            "labels": self.labels,
            "tracker": self.tracker.snapshot(),
            "own": list(self.own),
            "waiting": self.waiting.snapshot(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.version, self.sequence, self.labels = state["version"], state["sequence"], state["labels"]
        self.tracker = IntervalTracker.load(state["tracker"])
        self.own = state["own"][0], state["own"][1]
        self.waiting.load(state["waiting"])

    def _revisions(self, rows: OutcomeRows, places: Int64, offsets: Float64, leaps: NDArray[np.bool_]) -> list[Revision]:
        numbers = self.labels + 1 + np.arange(len(places))
        self.labels += len(places)
        revisions = []
        for i in np.flatnonzero(((numbers % LABELS_PER_REVISION == 0) | leaps) & np.isfinite(offsets).all(axis=1)).tolist():
            row = int(places[i])
            at = Coordinates(int(rows.at.time_ms[row]), int(rows.at.partition[row]), int(rows.at.offset[row]))
            lower, upper = offsets[i].tolist()
            revisions.append(Revision(self.model, at, self.sequence, str(self.version), lower, upper, int(numbers[i])))
            self.sequence += 1
        return revisions
