"""How much of a champion's answers each feature explains, measured once for each champion on its first answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.drift.domain.rows import floats
from tidemill.services.drift.domain.shifts import Summary
from tidemill.shared.short_text import short_text
from tidemill.shared.statistics.histogram import LONGEST_NAME, Tally
from tidemill.shared.statistics.sketch import Sketch, cells, coarser

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
_ROWS = 2_000
_LEAST_ROWS = 500
_BINS = 24
_TOP = 20


@dataclass(slots=True)
class Importance:
    """Main effects: the share of the variance of the answers that lies between ten bins of a feature (of categories, the most frequent and the rest).

    This is Sobol's index of the first order, scaled so that the largest is 1. It needs no access to the model, and is the same for every family.
    What a feature does only together with others it does not see, and correlated features share what one of them does; so it ranks, and decides
    nothing.

    The first 2,000 requests after a promotion are looked at, those whose answer was the champion's; a request waits for its answer.

    References
    ----------
    Sobol: Sensitivity estimates for nonlinear mathematical models. Mathematical Modelling and Computational Experiments 1 (1993).
    """

    names: Sequence[str]
    recorded: int = 0
    waiting: dict[str, list[int]] = field(default_factory=dict)
    rows: list[list[int]] = field(default_factory=list)
    sums: list[list[float]] = field(default_factory=list)
    squares: float = 0.0
    answers: int = 0

    def __post_init__(self) -> None:
        self.rows = self.rows or [[0] * _BINS for _ in self.names]
        self.sums = self.sums or [[0.0] * _BINS for _ in self.names]

    @property
    def left(self) -> int:
        """How many requests are yet to be recorded."""
        return _ROWS - self.recorded

    def requests(self, keys: Sequence[str], batch: pa.RecordBatch, reference: Mapping[str, Summary]) -> None:
        """Record the features of requests, in order, in the bins of the reference."""
        keys = keys[: self.left]
        part = batch.slice(0, len(keys))
        codes = np.column_stack([_codes(part.column(name), reference[name]) for name in self.names])
        self.recorded += len(keys)
        self.waiting |= zip(keys, codes.tolist(), strict=True)

    def answered(self, keys: Sequence[str], scores: Sequence[float], mine: Sequence[bool]) -> None:
        """Take answers, in order; those that another than the champion gave end the wait of their request only."""
        if not self.waiting:
            return
        for key, score, counts in zip(keys, scores, mine, strict=True):
            codes = self.waiting.pop(key, None)
            if codes is None or not counts or not np.isfinite(score):
                continue
            self.answers += 1
            self.squares += score * score
            for rows, sums, code in zip(self.rows, self.sums, codes, strict=True):
                rows[code] += 1
                sums[code] += score

    def shares(self) -> dict[str, float]:
        """Return the importance of each feature, the largest 1; nothing below 500 answers or where all answers are the same."""
        if self.answers < _LEAST_ROWS or not self.names:
            return {}
        rows, sums = np.array(self.rows, dtype=np.float64), np.array(self.sums)
        mean = sums.sum(axis=1, keepdims=True) / self.answers
        between = np.where(rows > 0, (sums - rows * mean) ** 2 / np.maximum(rows, 1), 0.0).sum(axis=1) / self.answers
        total = max(0.0, self.squares / self.answers - float(mean[0, 0]) ** 2)
        # By chance alone bins explain their number over the rows.
        chance = total * np.maximum(0, (rows > 0).sum(axis=1) - 1) / self.answers
        real = np.maximum(between - chance, 0.0)
        return dict(zip(self.names, (real / real.max()).tolist(), strict=True)) if real.max() > 0 else {}

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists and numbers."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "names"}

    @staticmethod
    def load(names: Sequence[str], state: Mapping[str, Any]) -> "Importance":
        """From a snapshot."""
        return Importance(names, **state)


def _codes(column: pa.Array, reference: Summary) -> Int64:
    """Bin of every value: by the reference's deciles or most frequent categories; the last is of what is missing."""
    if isinstance(reference, Tally):
        places = {name: place for place, name in enumerate(reference.bins(_TOP).categories)}
        texts = (None if value is None else short_text(value, LONGEST_NAME) for value in column.to_pylist())
        return np.array([_BINS - 1 if text is None else places.get(text, _TOP) for text in texts], dtype=np.int64)
    values = floats(column)
    present = ~np.isnan(values)
    codes = np.full(len(values), _BINS - 1, dtype=np.int64)
    codes[present] = np.searchsorted(_edges(reference), coarser(cells(values[present]), reference.shift), side="left")
    return codes


def _edges(reference: Sketch) -> Int64:
    if not reference.keys.size:
        return np.zeros(0, dtype=np.int64)
    filled = np.cumsum(reference.counts)
    return np.unique(reference.keys[np.minimum(np.searchsorted(filled, filled[-1] * np.arange(1, 10) / 10), filled.size - 1)])
