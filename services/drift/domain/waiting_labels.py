"""Labels that wait for their horizon, and leave in the order of their requests."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.services.drift.domain.rows import MergedCoordinates, OutcomeRows
from tidemill.shared.kinds.kind import Kind

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
_LEAST_MERGED = 4_096
_MERGED_SHARE = 8


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


LabelColumns = dict[str, NDArray[Any]]
_KINDS: Mapping[str, type] = {
    "request_ms": np.int64,
    "partition": np.int64,
    "offset": np.int64,
    "label": np.float64,
    "score": np.float64,
    "predicted": np.int64,
}


@dataclass(slots=True)
class WaitingLabels:
    """Labels that have come and are not yet looked at.

    Those that have waited for a while lie sorted by request; what came lately lies beside them and is merged when it has grown to an eighth, so that
    a step costs what it brings and takes, however many wait.

    Parameters
    ----------
    width
        Scores of a row: number of classes, or 0 where a score is one number.
    """

    width: int = 0
    begin: int = 0
    late: list[LabelColumns] = field(default_factory=list)
    sorted_: LabelColumns = field(init=False)

    def __post_init__(self) -> None:
        self.sorted_ = self._empty()

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self.sorted_["label"]) - self.begin + sum(len(one["label"]) for one in self.late)

    def clear(self) -> None:
        """Forget all."""
        self.begin, self.late, self.sorted_ = 0, [], self._empty()

    def widen(self, width: int) -> None:
        """Give every row more scores: 0, as those of classes that nobody had answered."""
        before, self.width = self.width, width
        for one in (self.sorted_, *self.late):
            count = len(one["label"])
            one["score"] = np.column_stack([one["score"].reshape(count, before), np.zeros((count, width - before))])

    def take(self, came: Labels, time_ms: Int64, horizon_ms: int) -> tuple[LabelColumns, Int64]:
        """Take labels that came in a batch; return those that are due, in order, and the row of the batch at which each is.

        Parameters
        ----------
        time_ms
            Journal time of every row of the batch, in order.
        horizon_ms
            How old a request must be. A label that comes later than that is due at once.
        """
        due_until = int(time_ms[-1]) - horizon_ms
        end = self.begin + int(np.searchsorted(self.sorted_["request_ms"][self.begin :], due_until, side="right"))
        ready = [{name: values[self.begin : end] for name, values in self.sorted_.items()}]
        first = [np.zeros(end - self.begin, dtype=np.int64)]
        self.begin = end
        waiting = []
        for one, rows in [*((one, None) for one in self.late), ({name: getattr(came, name) for name in _KINDS}, came.row)]:
            mask = one["request_ms"] <= due_until
            if mask.any():
                ready.append({name: values[mask] for name, values in one.items()})
                first.append(np.zeros(int(mask.sum()), dtype=np.int64) if rows is None else rows[mask])
                one = {name: values[~mask] for name, values in one.items()}
            if len(one["label"]):
                waiting.append(one)
        self.late = waiting
        if sum(len(one["label"]) for one in waiting) > max(_LEAST_MERGED, len(self) // _MERGED_SHARE):
            self._merge()
        columns = {name: np.concatenate([one[name] for one in ready]) for name in _KINDS}
        due = np.maximum(np.concatenate(first), np.searchsorted(time_ms, columns["request_ms"] + horizon_ms))
        order = np.lexsort((columns["offset"], columns["partition"], columns["request_ms"], due))
        return {name: values[order] for name, values in columns.items()}, due[order]

    def correct(self, label: Labels) -> bool:
        """Replace the label of a request (one label); return whether it waits."""
        waits = False
        request_ms, partition, offset = int(label.request_ms[0]), label.partition[0], label.offset[0]
        # What has left still lies before the begin of the sorted ones.
        for one in ({name: values[self.begin :] for name, values in self.sorted_.items()}, *self.late):
            rows = np.flatnonzero((one["request_ms"] == request_ms) & (one["offset"] == offset) & (one["partition"] == partition))
            one["label"][rows] = label.label[0]
            waits = waits or bool(len(rows))
        return waits

    def snapshot(self) -> dict[str, str]:
        """State as text, the same however the labels came."""
        self._merge()
        return {name: base64.b64encode(values.tobytes()).decode() for name, values in self.sorted_.items()}

    def load(self, state: Mapping[str, str]) -> None:
        """Take the state of a snapshot."""
        self.clear()
        for name, kind in _KINDS.items():
            values: NDArray[Any] = np.frombuffer(base64.b64decode(state[name]), dtype=kind)
            self.sorted_[name] = values.reshape(self._shape(name, -1)).copy()

    def _merge(self) -> None:
        parts = [{name: values[self.begin :] for name, values in self.sorted_.items()}, *self.late]
        columns = {name: np.concatenate([one[name] for one in parts]) for name in _KINDS}
        order = np.lexsort((columns["offset"], columns["partition"], columns["request_ms"]))
        self.sorted_ = {name: values[order] for name, values in columns.items()}
        self.begin, self.late = 0, []

    def _empty(self) -> LabelColumns:
        return {name: np.zeros(self._shape(name, 0), dtype=kind) for name, kind in _KINDS.items()}

    def _shape(self, name: str, rows: int) -> tuple[int, ...]:
        return (rows, self.width) if name == "score" and self.width else (rows,)


def labels_of(kind: Kind, rows: OutcomeRows, mine: NDArray[np.bool_], served: NDArray[np.bool_]) -> tuple[MergedCoordinates, Labels]:
    """Return the coordinates of a model's outcomes, and those that are labels of its champion with scores that say something.

    Of an answer from before a class was taken out of the application, the scores may still say something, and the number of its class nothing.
    """
    scores = rows.scores_of(kind, served)
    usable = kind.is_score(scores) & kind.is_label(rows.predicted[served])
    places, of = np.flatnonzero(mine), np.flatnonzero(served)[usable]
    at = MergedCoordinates(rows.at.place[places], rows.at.time_ms[places], rows.at.partition[places], rows.at.offset[places])
    labels = Labels(
        np.searchsorted(places, of),
        rows.request_ms[of],
        rows.at.partition[of],
        rows.request[of],
        rows.label[of],
        scores[usable],
        rows.predicted[of],
        rows.revision[of],
    )
    return at, labels
