"""The predictions of one partition, sorted out by model as an audit asks for them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.log.records import Records


@dataclass(frozen=True, slots=True)
class Answers:
    """Predictions of one model in their order.

    Attributes
    ----------
    offsets : int64 array, shape (n,)
        Journal offsets of the requests they answer.
    sequences : int64 array, shape (n,)
        Deployments they follow.
    revisions : int64 array, shape (n,)
        Revisions that their intervals follow; -1: none.
    values : n items
        As they stand in the topic.
    """

    offsets: NDArray[np.int64]
    sequences: NDArray[np.int64]
    revisions: NDArray[np.int64]
    values: list[bytes | None]

    def __len__(self) -> int:
        return len(self.values)


class PredictionQueue:
    """Reads predictions no further than it must: what one model is ahead of another is all that it holds.

    Parameters
    ----------
    runs
        The topic partition.
    end
        Journal offset from which on predictions are not looked at.
    """

    def __init__(self, runs: Iterator[Records], decoder: ColumnDecoder, end: int) -> None:
        self._runs = runs
        self._decoder = decoder
        self._end = end
        self._waiting: dict[str, Answers] = {}
        self._unreadable = 0

    def take(self, model: str, last: int) -> Answers:
        """Return a model's predictions for requests up to the journal offset `last`, and forget them."""
        while model not in self._waiting or not len(self._waiting[model]) or self._waiting[model].offsets[-1] < last:
            if not self._read():
                break
        held = self._waiting.get(model, _nothing())
        # A prediction that comes twice stands behind the first: it is taken too, or found later, and counts as one too many either way.
        count = int(np.searchsorted(np.maximum.accumulate(held.offsets), last, side="right")) if len(held) else 0
        self._waiting[model] = _part(held, count, len(held))
        return _part(held, 0, count)

    def rest(self) -> dict[str, int]:
        """Read to the end; returns how many predictions of each model were never taken, and how many cannot be read at all."""
        while self._read():
            pass
        left = {model: len(held) for model, held in self._waiting.items() if len(held)}
        return {**left, "unreadable": self._unreadable} if self._unreadable else left

    def _read(self) -> bool:
        records = next(self._runs, None)
        if records is None:
            return False
        decoded = self._decoder.decode(records.values)
        self._unreadable += len(decoded.errors)
        models = np.array(decoded.batch.column("model").to_pylist(), dtype=object)
        offsets, sequences = (int64_ms(decoded.batch.column(name)) for name in ("journal_offset", "deployment_sequence"))
        revisions = decoded.batch.column("revision").fill_null(-1).to_numpy(zero_copy_only=False)
        for model in dict.fromkeys(models.tolist()):
            rows = np.flatnonzero((models == model) & (offsets < self._end))
            held = self._waiting.get(model, _nothing())
            self._waiting[model] = Answers(
                np.concatenate([held.offsets, offsets[rows]]),
                np.concatenate([held.sequences, sequences[rows]]),
                np.concatenate([held.revisions, revisions[rows]]),
                held.values + [records.values[i] for i in decoded.rows[rows].tolist()],
            )
        return True


def _nothing() -> Answers:
    return Answers(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64), [])


def _part(answers: Answers, begin: int, end: int) -> Answers:
    part = slice(begin, end)
    return Answers(answers.offsets[part], answers.sequences[part], answers.revisions[part], answers.values[part])
