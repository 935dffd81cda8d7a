"""What is joined: predictions as they were served, truths, and where in the journal they stand."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from tidemill.services.outcomes.domain.equal_lengths import require_equal_lengths

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


class At(NamedTuple):
    """Journal coordinates of what is being worked on."""

    time_ms: int
    partition: int
    offset: int


class Pair(NamedTuple):
    """What the other one of champion and challenger said of a request: the challenger, or the champion where the canary answered.

    Attributes
    ----------
    score, predicted
        NaN and -1 where it has no score.
    numbers
        Probability of each class.
    slices
        The request's values of slices and sensitive columns as a JSON object; empty where none are declared.
    share, stage
        Of the requests that the challenger answers, and the stage of its trial.
    draw
        What the request drew of the challenger, which answers below the share; -1 in shadow.
    """

    version: str
    sequence: int
    score: float
    predicted: int
    numbers: tuple[float, ...] = ()
    slices: str = ""
    share: float = 0.0
    stage: str = ""
    draw: float = -1.0


class Request(NamedTuple):
    """A prediction as it was served.

    Attributes
    ----------
    numbers
        What its kind serves beside the score: the probability of each class, or both ends of the interval; NaN where there was none.
    pair
        What the other one said; None where nobody was tried.
    """

    request_id: str
    offset: int
    time_ms: int
    event_time_ms: int
    score: float
    predicted: int
    model_version: str
    deployment_sequence: int
    variant: str
    numbers: tuple[float, ...] = ()
    pair: Pair | None = None


class TimedLabel(NamedTuple):
    """A truth and when it happened.

    Attributes
    ----------
    value
        NaN of a model that learns its classes: which number a class has depends on the version that answered.
    name
        The class, of such a model.
    """

    value: float
    event_time_ms: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows column by column: fields of one length each, arrays or lists."""

    request_id: Sequence[str]

    def __len__(self) -> int:
        return len(self.request_id)

    def __getitem__(self, rows: slice) -> Self:
        return type(self)(**{one.name: getattr(self, one.name)[rows] for one in fields(self)})

    def of(self, rows: Int64) -> Self:
        """Return some of the rows."""
        if len(rows) == len(self) and (rows == np.arange(len(rows))).all():
            return self
        chosen, columns = rows.tolist(), dict[str, Any]()
        for one in fields(self):
            values = getattr(self, one.name)
            columns[one.name] = values[rows] if isinstance(values, np.ndarray) else [values[i] for i in chosen]
        return type(self)(**columns)

    @classmethod
    def together(cls, parts: Sequence[Self]) -> Self:
        """Return the rows of all parts, one after another; one part at least."""
        if len(parts) == 1:
            return parts[0]
        columns = dict[str, Any]()
        for one in fields(cls):
            values = [getattr(part, one.name) for part in parts]
            columns[one.name] = np.concatenate(values) if isinstance(values[0], np.ndarray) else [*chain(*values)]
        return cls(**columns)


@dataclass(frozen=True, slots=True)
class RequestColumns(Columns):
    """Requests without their pairs, as `Request` names their fields.

    Attributes
    ----------
    served
        Version, deployment sequence and variant.
    """

    offset: Int64
    time_ms: Int64
    event_time_ms: Int64
    score: Float64
    predicted: Int64
    served: Sequence[tuple[str, int, str]]
    numbers: Sequence[tuple[float, ...]]

    def request(self, row: int) -> Request:
        """Return one of them."""
        offset, time_ms, event_time_ms = (column[row].item() for column in (self.offset, self.time_ms, self.event_time_ms))
        version, sequence, variant = self.served[row]
        score, predicted = self.score[row].item(), self.predicted[row].item()
        return Request(self.request_id[row], offset, time_ms, event_time_ms, score, predicted, version, sequence, variant, self.numbers[row])


@dataclass(frozen=True, slots=True)
class LabelColumns(Columns):
    """Labels, as `TimedLabel` names their fields, and the requests that they are of."""

    value: Float64
    event_time_ms: Int64
    name: Sequence[str]

    def label(self, row: int) -> TimedLabel:
        """Return one of them."""
        return TimedLabel(self.value[row].item(), self.event_time_ms[row].item(), self.name[row])

    def all(self) -> Iterator[TimedLabel]:
        """Give them one after another."""
        require_equal_lengths(self.value, self.event_time_ms, self.name)
        return map(TimedLabel, self.value.tolist(), self.event_time_ms.tolist(), self.name)


_NOTHING, _NO_SCORES = np.empty(0, np.int64), np.empty(0)
NO_REQUESTS = RequestColumns((), _NOTHING, _NOTHING, _NOTHING, _NO_SCORES, _NOTHING, (), ())
NO_LABELS = LabelColumns((), _NO_SCORES, _NOTHING, ())
