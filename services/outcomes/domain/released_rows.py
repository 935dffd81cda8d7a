"""What the inputs of outcomes add to the merge, and the batch that is made of what it lets go."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tidemill.services.outcomes.domain.join_batch import JoinBatch, ModelRows
from tidemill.services.outcomes.domain.request import LabelColumns, Pair, RequestColumns
from tidemill.shared.log.records import Records
from tidemill.shared.merge.merge import Released

Int64 = NDArray[np.int64]


class InvalidLabel(NamedTuple):
    """A journal record with a label that is none: what is wrong with it, and the requests that it names, each with the model."""

    record: Records
    detail: str
    requests: list[tuple[str, str]]


class JournalRows(NamedTuple):
    """Labels by model, with their rows in a journal batch, and by row what is no label of its model's kind."""

    labels: Mapping[str, tuple[Int64, LabelColumns]]
    invalid: Mapping[int, InvalidLabel]


class PredictionRows(NamedTuple):
    """Predictions, and their rows by model."""

    requests: RequestColumns
    rows: Mapping[str, Int64]


class ShadowRows(NamedTuple):
    """Shadow scores as rows: models, journal offsets of the requests, and what the one said that did not answer."""

    models: Sequence[str]
    offsets: Sequence[int]
    pairs: Sequence[Pair]


def rows_by(models: Sequence[str]) -> dict[str, Int64]:
    """Return the rows of each model, in order."""
    names = np.array(models, dtype=object)
    return {name: np.flatnonzero(names == name) for name in dict.fromkeys(models)}


def batch_of(released: Released, partition: int, models: Iterable[str]) -> tuple[JoinBatch, list[tuple[int, InvalidLabel]]]:
    """Return the batch of what was let go of one journal partition, and the invalid labels in order, each with its place.

    Parameters
    ----------
    models
        Those that the application has, in its order; what is of others is left out.
    """
    parts = {name: ModelRows() for name in models}
    invalid: list[tuple[int, InvalidLabel]] = []
    journal = [np.empty(0, np.int64)]
    for number, (_, _, payload) in enumerate(released.sources):
        places = np.flatnonzero(released.source == number)
        # What is let go of one source is a stretch of its rows, in their order.
        first, end = int(released.rows[places[0]]), int(released.rows[places[-1]]) + 1
        if isinstance(payload, PredictionRows):
            for name in parts.keys() & payload.rows.keys():
                rows = _within(payload.rows[name], first, end)
                parts[name].requests.append((places[payload.rows[name][rows] - first], payload.requests.of(payload.rows[name][rows])))
        elif isinstance(payload, ShadowRows):
            for place, row in zip(places.tolist(), range(first, end), strict=True):
                if payload.models[row] in parts:
                    parts[payload.models[row]].pairs.append((place, (payload.offsets[row], payload.pairs[row])))
        else:
            journal.append(places)
            for name, (rows_of_labels, labels) in payload.labels.items():
                rows = _within(rows_of_labels, first, end)
                parts[name].labels.append((places[rows_of_labels[rows] - first], labels[rows]))
            invalid += [(int(places[row - first]), one) for row, one in payload.invalid.items() if first <= row < end]
    invalid.sort(key=lambda one: one[0])
    for place, one in invalid:
        for name, request in one.requests:
            parts[name].invalid.append((place, request))
    in_order = {name: one.in_order() for name, one in parts.items() if one.requests or one.labels or one.pairs or one.invalid}
    return JoinBatch(partition, released.journal_time, released.journal_offset, np.sort(np.concatenate(journal)), in_order), invalid


def _within(rows: Int64, first: int, end: int) -> slice:
    """Return where rows from `first` to before `end` lie among sorted ones."""
    return slice(*np.searchsorted(rows, (first, end)).tolist())
