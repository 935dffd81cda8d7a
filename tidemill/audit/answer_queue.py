"""Predictions or shadow scores of one partition, sorted out by model as an audit asks for them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.log.records import Records


@dataclass(frozen=True, slots=True)
class ModelAnswers:
    """Records of one model in their order.

    Attributes
    ----------
    offsets : int64 array, shape (n,)
        Journal offsets of the requests they are of.
    numbers : int64 array, shape (n, columns)
        What they say that they follow, -1 for null.
    values : n items
        As they stand in the topic.
    """

    offsets: NDArray[np.int64]
    numbers: NDArray[np.int64]
    values: list[bytes | None]

    def __len__(self) -> int:
        return len(self.values)

    def part(self, begin: int, end: int) -> "ModelAnswers":
        """Return those from `begin` to before `end`."""
        return ModelAnswers(self.offsets[begin:end], self.numbers[begin:end], self.values[begin:end])


class AnswerQueue:
    """Reads records no further than it must: what one model is ahead of another is all that it holds.

    Parameters
    ----------
    runs
        The topic partition.
    span
        Journal offsets of the requests whose records are looked at.
    columns
        Names of the numbers that are kept of each.

    Attributes
    ----------
    read
        How many records were read of requests up to the end. (The last request that a stage has answered is the one it has not yet passed.)
    """

    def __init__(self, runs: Iterator[Records], decoder: ColumnDecoder, span: range, columns: Sequence[str]) -> None:
        self._runs = runs
        self._decoder = decoder
        self._begin, self._end = span.start, span.stop
        self._columns = tuple(columns)
        self._waiting: dict[str, ModelAnswers] = {}
        self._unreadable = 0
        self.read = 0

    def take(self, model: str, last: int) -> ModelAnswers:
        """Return a model's records of requests up to the journal offset `last`, and forget them."""
        while model not in self._waiting or not len(self._waiting[model]) or self._waiting[model].offsets[-1] < last:
            if not self._read():
                break
        held = self._waiting.get(model, self._nothing())
        # A record that comes twice stands behind the first: it is taken too, or found later, and counts as one too many either way.
        count = int(np.searchsorted(np.maximum.accumulate(held.offsets), last, side="right")) if len(held) else 0
        self._waiting[model] = held.part(count, len(held))
        return held.part(0, count)

    def rest(self) -> dict[str, int]:
        """Read to the end; returns how many records of each model were never taken, and how many cannot be read at all."""
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
        offsets = int64_ms(decoded.batch.column("journal_offset"))
        columns = [decoded.batch.column(name).fill_null(-1).to_numpy(zero_copy_only=False) for name in self._columns]
        numbers = np.stack(columns, axis=1).astype(np.int64)
        self.read += int((offsets <= self._end).sum())
        for model in dict.fromkeys(models.tolist()):
            rows = np.flatnonzero((models == model) & (offsets >= self._begin) & (offsets < self._end))
            held = self._waiting.get(model, self._nothing())
            self._waiting[model] = ModelAnswers(
                np.concatenate([held.offsets, offsets[rows]]),
                np.concatenate([held.numbers, numbers[rows]]),
                held.values + [records.values[i] for i in decoded.rows[rows].tolist()],
            )
        return True

    def _nothing(self) -> ModelAnswers:
        return ModelAnswers(np.empty(0, np.int64), np.empty((0, len(self._columns)), np.int64), [])
