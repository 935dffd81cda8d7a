"""The distributions of the features: today's, all history's, and what each champion was trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.drift.domain.data_quality import Scale, scale
from tidemill.services.drift.domain.null_shifts import WINDOWS_KEPT
from tidemill.services.drift.domain.rows import floats
from tidemill.shared.statistics.distances import jensen_shannon, kolmogorov_smirnov, population_stability_index
from tidemill.shared.statistics.histogram import Tally
from tidemill.shared.statistics.sketch import Sketch, binned

Summary = Sketch | Tally
_CHUNK_ROWS = 16_384
_LEAST_ROWS = 100


@dataclass(frozen=True, slots=True)
class FeatureColumn:
    """Name and type of one column of the vector."""

    name: str
    type: Literal["double", "string"]

    def empty(self) -> Summary:
        """Summary of no rows."""
        return Sketch.empty() if self.type == "double" else Tally()

    def summary(self, column: pa.Array) -> Summary:
        """Summary of a column."""
        return Sketch.of(floats(column)) if self.type == "double" else Tally.of(column.to_pylist())

    def load(self, state: dict[str, Any]) -> Summary:
        """Summary of a snapshot."""
        return Sketch.load(state) if self.type == "double" else Tally.load(state)


def merged(first: Summary, second: Summary) -> Summary:
    """Of both together."""
    if isinstance(first, Sketch) and isinstance(second, Sketch):
        return first.merged(second)
    if isinstance(first, Tally) and isinstance(second, Tally):
        return first.merged(second)
    raise TypeError(f"expected two summaries of one kind, got {type(first).__name__} and {type(second).__name__}")


@dataclass(frozen=True, slots=True)
class Shift:
    """How far a window's distribution of one feature lies from the reference's."""

    psi: float
    js: float
    ks: float
    missing_reference: float
    missing: float
    outside: float
    rows: int
    scale: Scale | None = None
    is_text: bool = False


def shift(reference: Summary, current: Summary) -> Shift | None:
    """Compare a window with the reference; None when either has no rows.

    `outside` is the share of present rows beyond the reference's range, or of categories it never saw.
    """
    if not reference.rows or not current.rows:
        return None
    if isinstance(reference, Sketch) and isinstance(current, Sketch):
        expected, seen = binned(reference, current)
        outside = current.outside(reference.low, reference.high) if reference.present else 0
        ks = kolmogorov_smirnov(expected, seen)
    elif isinstance(reference, Tally) and isinstance(current, Tally):
        bins = reference.bins()
        expected, seen = bins.counts(reference), bins.counts(current)
        outside = current.unseen(reference) if reference.present else 0
        ks = float(np.abs(expected / expected.sum() - seen / seen.sum()).max())
    else:
        raise TypeError(f"expected two summaries of one kind, got {type(reference).__name__} and {type(current).__name__}")
    psi, js = population_stability_index(expected, seen), jensen_shannon(expected, seen)
    share = outside / current.present if current.present else 0.0
    factor = scale(reference, current) if isinstance(reference, Sketch) and isinstance(current, Sketch) else None
    return Shift(psi, js, ks, reference.missing_share, current.missing_share, share, current.rows, factor, isinstance(reference, Tally))


@dataclass(slots=True)
class FeatureFold:
    """Summaries of the vectors of one asking stream.

    Rows wait as columns and are summarised some thousand at a time: summaries do not depend on how rows were grouped, so nobody can
    tell. A day's summaries are merged into the history when the day is over; how far it lay from what came before it is kept (`null`: the
    population stability index of the last 90 days of at least 100 rows), because that is what later days are to be held against; so are the figures
    of data quality (`daily`).
    """

    columns: Sequence[FeatureColumn]
    today: dict[str, Summary] = field(default_factory=dict)
    history: dict[str, Summary] = field(default_factory=dict)
    null: dict[str, list[float]] = field(default_factory=dict)
    daily: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    rows: int = 0
    lags: Sketch = field(default_factory=Sketch.empty)
    _lags: list[NDArray[np.float64]] = field(default_factory=list)
    _waiting: list[pa.RecordBatch] = field(default_factory=list)
    _rows: int = 0

    def __post_init__(self) -> None:
        for column in self.columns:
            self.today.setdefault(column.name, column.empty())
            self.history.setdefault(column.name, column.empty())
            self.null.setdefault(column.name, [])
            self.daily.setdefault(column.name, {})

    def absorb(self, batch: pa.RecordBatch, lag_ms: NDArray[np.float64] | None = None) -> None:
        """Add vectors of the current day, with the milliseconds from the event time of each to its journal time."""
        self.rows += batch.num_rows
        if lag_ms is not None:
            self._lags.append(lag_ms)
        self._waiting.append(batch.select([column.name for column in self.columns]))
        self._rows += batch.num_rows
        if self._rows >= _CHUNK_ROWS:
            self.settle()

    def settle(self) -> None:
        """Summarise the rows that wait."""
        if not self._waiting:
            return
        table = pa.Table.from_batches(self._waiting).combine_chunks()
        for column in self.columns:
            values = table.column(column.name).combine_chunks()
            self.today[column.name] = merged(self.today[column.name], column.summary(values))
        if self._lags:
            self.lags = self.lags.merged(Sketch.of(np.concatenate(self._lags)))
        self._waiting, self._lags, self._rows = [], [], 0

    def seen(self) -> dict[str, Summary]:
        """Everything so far: the reference of a champion promoted now."""
        self.settle()
        return {column.name: merged(self.history[column.name], self.today[column.name]) for column in self.columns}

    def shifts(self, reference: Mapping[str, Summary], features: Sequence[str]) -> dict[str, Shift]:
        """Today's shift of each feature against a reference."""
        self.settle()
        found = {name: shift(reference[name], self.today[name]) for name in features if name in reference}
        return {name: one for name, one in found.items() if one is not None}

    def close_day(self) -> None:
        """Move today's rows into the history."""
        if not self.rows:
            return
        self.settle()
        for name, one in self.shifts(self.history, list(self.history)).items():
            if one.rows >= _LEAST_ROWS:
                self.null[name] = [*self.null[name], one.psi][-WINDOWS_KEPT:]
                figures = {"missing": one.missing, "outside": one.outside} | ({"factor_log": one.scale.factor_log} if one.scale else {})
                for figure, value in figures.items():
                    self.daily[name][figure] = [*self.daily[name].get(figure, ()), value][-WINDOWS_KEPT:]
        self.history = self.seen()
        self.rows, self.lags = 0, Sketch.empty()
        self.today = {column.name: column.empty() for column in self.columns}
