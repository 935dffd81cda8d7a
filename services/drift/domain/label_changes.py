"""Whether a model errs more than it did, label by label: several detectors, one verdict."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.services.drift.domain.promise import Kept
from tidemill.shared.detectors.catalogue import Choice
from tidemill.shared.detectors.cusum_mixture import SURE_BASELINE
from tidemill.shared.detectors.detector import Change, Detector
from tidemill.shared.detectors.detectors import detector

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels in the order in which they came, with their requests and how those were answered, shape (n,) each.

    Attributes
    ----------
    row
        Of the batch.
    request_ms, partition, offset
        Journal time and place of the request.
    score
        As the model's kind has them: shape (n,), or (n, K) of K classes.
    revision
        0 for the first label of a request.
    """

    row: Int64
    request_ms: Int64
    partition: Int64
    offset: Int64
    label: Float64
    score: Float64
    predicted: Int64
    revision: Int64

    def part(self, begin: int, end: int) -> "Labels":
        """Return those of the rows from `begin` to before `end`, with rows that count from there."""
        chosen = slice(*np.searchsorted(self.row, [begin, end]).tolist())
        rest = {one.name: getattr(self, one.name)[chosen] for one in fields(self)}
        return Labels(**rest | {"row": self.row[chosen] - begin})

    def later(self, count: int) -> "Labels":
        """Return all but the first so many."""
        return Labels(**{one.name: getattr(self, one.name)[count:] for one in fields(self)}) if count else self


_COLUMNS: Mapping[str, type] = {
    "request_ms": np.int64,
    "partition": np.int64,
    "offset": np.int64,
    "label": np.float64,
    "score": np.float64,
    "predicted": np.int64,
}


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
    """

    choices: Sequence[Choice]
    hold: Callable[[Float64, Float64, Int64], Kept]
    width: int = 0
    detectors: list[Detector] = field(init=False)
    pending: dict[str, NDArray[Any]] = field(init=False)
    labels: int = 0
    resting: bool = False

    def __post_init__(self) -> None:
        self.detectors = [detector(choice) for choice in self.choices]
        self.reset()

    def reset(self) -> None:
        """Begin anew for a new champion."""
        self.pending = {name: np.zeros(self._shape(name, 0), dtype=kind) for name, kind in _COLUMNS.items()}
        self._begin()

    def absorb(self, came: Labels, time_ms: Int64, horizon_ms: int, days_known: bool) -> list[Rise]:
        """Take labels and look at those whose horizon has passed.

        Parameters
        ----------
        time_ms
            Journal time of every row of the batch, in order.
        days_known
            Whether enough days are known to tell that labels do not cluster by day.
        """
        added = {name: np.concatenate([self.pending[name], getattr(came, name)]) for name in _COLUMNS}
        first = np.concatenate([np.zeros(len(self.pending["label"]), dtype=np.int64), came.row])
        due = np.maximum(first, np.searchsorted(time_ms, added["request_ms"] + horizon_ms))
        order = np.lexsort((added["offset"], added["partition"], added["request_ms"], due))
        ready = order[due[order] < len(time_ms)]
        waiting = np.sort(order[len(ready) :])
        self.pending = {name: values[waiting] for name, values in added.items()}
        if self.resting or not ready.size or not self.detectors:
            return []
        kept = self.hold(*(added[name][ready] for name in ("label", "score", "predicted")))
        return self._rises(kept, due[ready], days_known)

    def correct(self, label: Labels) -> None:
        """Replace the label of a request that still waits (one label); one that has been looked at stays as it was."""
        rows = np.flatnonzero((self.pending["offset"] == label.offset[0]) & (self.pending["partition"] == label.partition[0]))
        self.pending["label"][rows] = label.label[0]

    def rest(self, resting: bool) -> None:
        """Rest where labels cluster by day, or wake up and begin anew."""
        if resting != self.resting:
            self.resting = resting
            self._begin()

    def begin(self) -> None:
        """Begin anew after a verdict."""
        self._begin()

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists, numbers and texts."""
        pending = {name: base64.b64encode(values.tobytes()).decode() for name, values in self.pending.items()}
        return {"pending": pending, "labels": self.labels, "resting": self.resting, "detectors": [one.snapshot() for one in self.detectors]}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take the state of a snapshot."""
        for name, kind in _COLUMNS.items():
            values: NDArray[Any] = np.frombuffer(base64.b64decode(state["pending"][name]), dtype=kind)
            self.pending[name] = values.reshape(self._shape(name, -1)).copy()
        self.labels, self.resting = state["labels"], state["resting"]
        for one, saved in zip(self.detectors, state["detectors"], strict=True):
            one.load(saved)

    def _rises(self, kept: Kept, rows: Int64, days_known: bool) -> list[Rise]:
        loss, rises, begin = (kept.excess + 1) / 2, [], 0
        while begin < len(rows):
            seen = [self._first(one, kept, loss, begin) for one in self.detectors]
            at, which, change = min(seen, key=lambda one: one[0])
            if change is None:
                self.labels += len(rows) - begin
                break
            labels = self.labels + at + 1 - begin
            if days_known or labels >= SURE_BASELINE:
                one = self.detectors[which]
                rises.append(Rise(one.name, "error_rate" if one.bits else "excess_loss", int(rows[at]), change, labels))
            self._begin()
            begin = at + 1
        return rises

    def _first(self, one: Detector, kept: Kept, loss: Float64, begin: int) -> tuple[int, int, Change | None]:
        """Return where a detector first sees a rise, its place in the list, and the rise."""
        values = kept.error if one.bits else loss
        which = self.detectors.index(one)
        for change in one.update(values[begin:].tolist(), kept.expected[begin:].tolist()):
            if change.mean_after > change.mean_before:
                return begin + change.row, which, change
        return len(values), which, None

    def _shape(self, name: str, rows: int) -> tuple[int, ...]:
        return (rows, self.width) if name == "score" and self.width else (rows,)

    def _begin(self) -> None:
        self.labels = 0
        for one in self.detectors:
            one.reset()
