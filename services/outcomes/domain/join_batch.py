"""A batch of what is joined, in merge order, column by column."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tidemill.services.outcomes.domain.request import NO_LABELS, NO_REQUESTS, At, Columns, LabelColumns, Pair, RequestColumns

Int64 = NDArray[np.int64]
_C = TypeVar("_C", bound=Columns)
TICK, PAIR, REQUEST, LABEL, INVALID_LABEL = range(5)
"""What a row of a batch is, in the order in which those of one place are dealt with."""


class Row(NamedTuple):
    """One thing of a batch: at which place, what, of which model (by its number in the batch), and its number among those of its kind."""

    place: int
    what: int
    model: int
    number: int


@dataclass(frozen=True, slots=True)
class ModelBatch:
    """What a batch has of one model, each with its places in the batch, which rise (those of labels of one record are the same).

    Attributes
    ----------
    pairs
        What the other one of champion and challenger said, and the journal offsets of the requests.
    invalid
        Requests of which a truth came that is no label.
    """

    requests: RequestColumns
    request_place: Int64
    labels: LabelColumns
    label_place: Int64
    pairs: Sequence[tuple[int, Pair]]
    pair_place: Int64
    invalid: Sequence[str]
    invalid_place: Int64

    def within(self, begin: int, end: int) -> "ModelBatch":
        """Return what lies at the places in [begin, end)."""
        asked, told, paired, wrong = (
            slice(*np.searchsorted(places, (begin, end)).tolist())
            for places in (self.request_place, self.label_place, self.pair_place, self.invalid_place)
        )
        return ModelBatch(
            self.requests[asked], self.request_place[asked], self.labels[told], self.label_place[told],
            self.pairs[paired], self.pair_place[paired], self.invalid[wrong], self.invalid_place[wrong],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelRows:
    """What several inputs have of one model, with their places, as it is gathered: each input in its order."""

    requests: list[tuple[Int64, RequestColumns]] = field(default_factory=list)
    labels: list[tuple[Int64, LabelColumns]] = field(default_factory=list)
    pairs: list[tuple[int, tuple[int, Pair]]] = field(default_factory=list)
    invalid: list[tuple[int, str]] = field(default_factory=list)

    def in_order(self) -> ModelBatch:
        """Return it in the order of the places."""
        asked, asked_place = _in_order([columns for _, columns in self.requests] or [NO_REQUESTS], [places for places, _ in self.requests])
        told, told_place = _in_order([columns for _, columns in self.labels] or [NO_LABELS], [places for places, _ in self.labels])
        pairs, pair_place = [pair for _, pair in self.pairs], np.array([place for place, _ in self.pairs], np.int64)
        invalid, invalid_place = [request for _, request in self.invalid], np.array([place for place, _ in self.invalid], np.int64)
        return ModelBatch(asked, asked_place, told, told_place, pairs, pair_place, invalid, invalid_place)


def _in_order(parts: Sequence[_C], places: Sequence[Int64]) -> tuple[_C, Int64]:
    """Return the columns of several inputs together, in the order of their places, and these."""
    columns, place = parts[0].together(parts), np.concatenate([np.empty(0, np.int64), *places])
    if (place[:-1] <= place[1:]).all():
        return columns, place
    order = np.argsort(place, kind="stable")
    return columns.of(order), place[order]


@dataclass(frozen=True, slots=True)
class JoinBatch:
    """Rows of one journal partition, with what each model has of them.

    Attributes
    ----------
    time_ms, offset : int64 arrays, shape (n,)
        Journal coordinates of each place.
    journal_place
        Places of journal records, ticks included: what waits too long is given up at these.
    """

    partition: int
    time_ms: Int64
    offset: Int64
    journal_place: Int64
    models: Mapping[str, ModelBatch]

    def __len__(self) -> int:
        return len(self.time_ms)

    def at(self, place: int) -> At:
        """Return the coordinates of a place."""
        return At(self.time_ms[place].item(), self.partition, self.offset[place].item())

    def all_at(self, places: Int64) -> Iterator[At]:
        """Give the coordinates of places, one after another."""
        return map(At, self.time_ms[places].tolist(), repeat(self.partition), self.offset[places].tolist())

    def rows(self, begin: int, end: int) -> Iterator[Row]:
        """Everything at the places in [begin, end), one after another."""
        first, last = np.searchsorted(self.journal_place, (begin, end)).tolist()
        rows = [Row(place, TICK, -1, -1) for place in self.journal_place[first:last].tolist()]
        for number, one in enumerate(self.models.values()):
            columns = ((REQUEST, one.request_place), (LABEL, one.label_place), (PAIR, one.pair_place), (INVALID_LABEL, one.invalid_place))
            for what, places in columns:
                first, last = np.searchsorted(places, (begin, end)).tolist()
                rows += [Row(place, what, number, i) for i, place in enumerate(places[first:last].tolist(), first)]
        yield from sorted(rows)
