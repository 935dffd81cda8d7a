"""Whether a model errs more than it did, label by label: several detectors, one verdict."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.services.drift.domain.promise import PromiseErrors
from tidemill.services.drift.domain.waiting_labels import Labels, WaitingLabels
from tidemill.shared.detectors.catalogue import DetectorChoice
from tidemill.shared.detectors.cusum_mixture import SURE_BASELINE
from tidemill.shared.detectors.detector import Change, Detector
from tidemill.shared.detectors.detectors import detector

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
_CHUNK_LABELS = 1_000


@dataclass(frozen=True, slots=True)
class Rise:
    """A detected rise: by which detector, of what, at which row of the batch, and the change as the detector saw it."""

    detector: str
    subject: str
    row: int
    change: Change
    labels: int


@dataclass(slots=True)
class LabelChanges:
    """The detectors of an application's list on the labels of one champion, in the order of their requests.

    A label is taken when its request is as old as the horizon of the labels: those known earlier are no fair sample. Detectors of bits get 0 and 1
    for right and wrong, with the probability of an error by the model's own score; the others get the excess loss, moved from [-1, 1] to [0, 1].
    The first detector that sees a rise gives the verdict, and all begin anew. A fall makes its own detector begin anew and is no finding.

    A correction replaces a label that waits. One that comes later is passed over: its label has had its place in the order, and what a detector has
    seen cannot be taken back; as an observation of its own it would count its request twice. It is counted in `passed_over`, by which health tells
    how much of the truth these detectors do not see. Where that is much, the days (`clusters: by_day`), which take the difference, judge better.

    Every label counts as an observation of its own here. Where labels cluster by day, days are the observations (`ExcessLoss`), and this is
    at rest. As long as fewer than seven days are known, a verdict wants 20,000 labels.

    Parameters
    ----------
    choices
        Detectors by name, with their parameters.
    hold
        Holds labels against scores: (label, score, predicted) to errors and excess loss.
    width
        Scores of a row: number of classes, or 0 where a score is one number.

    Attributes
    ----------
    passed_over
        Corrections that came too late, since `passed` was asked.
    """

    choices: Sequence[DetectorChoice]
    hold: Callable[[Float64, Float64, Int64], PromiseErrors]
    width: int = 0
    detectors: list[Detector] = field(init=False)
    waiting: WaitingLabels = field(init=False)
    labels: int = 0
    resting: bool = False
    passed_over: int = 0

    def __post_init__(self) -> None:
        self.detectors = [detector(choice) for choice in self.choices]
        self.waiting = WaitingLabels(self.width)
        self.reset()

    def reset(self) -> None:
        """Begin anew for a new champion."""
        self.waiting.clear()
        self._begin()

    def widen(self, hold: Callable[[Float64, Float64, Int64], PromiseErrors], width: int) -> None:
        """Hold labels against the scores of more classes from now on."""
        self.hold, self.width = hold, width
        self.waiting.widen(width)

    def absorb(self, came: Labels, time_ms: Int64, horizon_ms: int, days_known: bool) -> list[Rise]:
        """Take labels and look at those whose horizon has passed.

        Parameters
        ----------
        time_ms
            Journal time of every row of the batch, in order.
        days_known
            Whether enough days are known to tell that labels do not cluster by day.
        """
        if self.resting or not self.detectors or not len(time_ms):
            return []
        ready, rows = self.waiting.take(came, time_ms, horizon_ms)
        if not len(rows):
            return []
        return self._rises(self.hold(ready["label"], ready["score"], ready["predicted"]), rows, days_known)

    def correct(self, label: Labels) -> None:
        """Replace the label of a request that still waits (one label); one that has been looked at stays as it was, and is counted."""
        if not self.waiting.correct(label) and self.detectors and not self.resting:
            self.passed_over += 1

    def passed(self) -> int:
        """Return how many corrections were passed over since this was asked last."""
        count, self.passed_over = self.passed_over, 0
        return count

    def rest(self, resting: bool) -> None:
        """Rest where labels cluster by day, or wake up and begin anew with the labels that come from then on."""
        if resting != self.resting:
            self.resting = resting
            self.reset()

    def begin(self) -> None:
        """Begin anew after a verdict."""
        self._begin()

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists, numbers and texts."""
        return {
            "waiting": self.waiting.snapshot(),
            "labels": self.labels,
            "resting": self.resting,
            "passed_over": self.passed_over,
            "detectors": [one.snapshot() for one in self.detectors],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.waiting.load(state["waiting"])
        self.labels, self.resting, self.passed_over = state["labels"], state["resting"], state["passed_over"]
        for one, saved in zip(self.detectors, state["detectors"], strict=True):
            one.load(saved)

    def _rises(self, kept: PromiseErrors, rows: Int64, days_known: bool) -> list[Rise]:
        loss, rises, begin = (kept.excess + 1) / 2, [], 0
        while begin < len(rows):
            # After a verdict all begin anew behind it: what they had seen beyond it was in vain, so they are given no more than a chunk.
            end = min(len(rows), begin + _CHUNK_LABELS)
            seen = [self._first(one, kept, loss, begin, end) for one in self.detectors]
            at, which, change = min(seen, key=lambda one: one[0])
            if change is None:
                self.labels += end - begin
                begin = end
                continue
            labels = self.labels + at + 1 - begin
            if days_known or labels >= SURE_BASELINE:
                one = self.detectors[which]
                rises.append(Rise(one.name, "error_rate" if one.bits else "excess_loss", int(rows[at]), change, labels))
            self._begin()
            begin = at + 1
        return rises

    def _first(self, one: Detector, kept: PromiseErrors, loss: Float64, begin: int, end: int) -> tuple[int, int, Change | None]:
        """Return where a detector first sees a rise, its place in the list, and the rise."""
        values = kept.error if one.bits else loss
        which = self.detectors.index(one)
        for change in one.update(values[begin:end], kept.expected[begin:end]):
            if change.mean_after > change.mean_before:
                return begin + change.row, which, change
        return end, which, None

    def _begin(self) -> None:
        self.labels = 0
        for one in self.detectors:
            one.reset()
