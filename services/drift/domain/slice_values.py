"""Broken values by slice: missing ones, values never seen and other units in some rows only, which the whole hides."""

import base64
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.drift.domain.conditions import CALM_LEVEL
from tidemill.services.drift.domain.findings import Kind
from tidemill.services.drift.domain.measured import have_fractions
from tidemill.services.drift.domain.scale import FACTORS
from tidemill.services.drift.domain.shifts import Summary
from tidemill.services.drift.domain.slice_usual import LEAST_HISTORY, SliceUsual, UsualSoFar, WindowFigures
from tidemill.services.drift.domain.value_counts import COUNTS, UNIT, add_values
from tidemill.shared.avro.chosen_rows import together

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
LEAST_ROWS = 100
_MOST_WINDOWS = 7
_CHUNK_ROWS = 16_384
_SIGMAS = 5.0
_REACH = 1.5
_SAME, _SAME_SPREAD = 0.04, 0.1
_LEAST_FACTOR_LOG = float(np.log(1.25))
_ONE_SIGN = 0.99
_KNOWN = np.log(np.array([*FACTORS.values(), *(1 / one for one in FACTORS.values())]))
_Active = tuple[str, str, int]
_KNOWN_NAMES = [*FACTORS, *(f"the reverse of {name}" for name in FACTORS)]


@dataclass(frozen=True, slots=True)
class SliceMeasure:
    """How far the values of one feature in one slice lie from what was usual there."""

    kind: Kind
    feature: str
    code: int
    detector: str
    statistic: float
    bound: float
    told: str
    evidence: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ValueBounds:
    """What the values of slices are held against that is the same for all of them.

    Attributes
    ----------
    outside
        Bounds on the share of values never seen, by feature; features without one are not judged.
    missing_shift
        No bound on a change of the share of missing values is lower.
    categories
        Features that are categories.
    without_units
        Features of which no units are judged: a few values; those whose rows share events, so that a hundred of them may be a few.
    whole
        Features of few whole numbers, of which no units are judged while they stay whole.
    """

    outside: Mapping[str, float]
    missing_shift: float
    categories: Set[str]
    without_units: Set[str]
    whole: Set[str]


@dataclass(frozen=True, slots=True)
class _Scaling:
    """By which known factor the values of slices have moved: arrays of shape (judged slices, features).

    `moved` is the move of the mean logarithm, 0 where no known factor explains it; `bound` the least that counts; `nearest` a place in the list of
    known factors.
    """

    moved: Float64
    bound: Float64
    nearest: Int64


@dataclass(slots=True)
class SliceValues:
    """Counts of each feature's values in each slice, held against the slice's own windows before the champion's promotion.

    A slice's window ends with the day on which it has 100 rows; one that has fewer in seven days is not judged, nor is one with fewer than seven
    windows before the promotion. What was usual is that of one to two weeks before the promotion, where most of the windows came before. Ranges and
    categories are those of the whole reference, as is the bound on values beyond them, by five standard errors of the slice's rows. Other units are
    a factor of the table by which the mean logarithm has moved while its spread is the same; of Celsius and Fahrenheit only the whole tells.

    Sums are whole numbers (of logarithms in units of 2^-16), so that batches of any size give the same. Memory: 31 numbers for each feature of a
    slice.

    Attributes
    ----------
    rows, windows
        Of each slice since its last window ended: rows, and days.
    usual, frozen
        What has been usual so far, and what the champion is held against; None before the first.
    """

    features: Sequence[str]
    slices: int
    rows: Int64 = field(init=False)
    windows: Int64 = field(init=False)
    counts: dict[str, Int64] = field(init=False)
    usual: UsualSoFar = field(init=False)
    frozen: SliceUsual | None = None
    small: set[int] = field(default_factory=set)
    _waiting: list[tuple[pa.RecordBatch, Int64]] = field(default_factory=list)
    _waiting_rows: int = 0

    def __post_init__(self) -> None:
        shape = self.slices, len(self.features)
        self.rows, self.windows = (np.zeros(self.slices, np.int64) for _ in range(2))
        self.counts = {name: np.zeros(shape, np.int64) for name in COUNTS}
        self.usual = UsualSoFar(SliceUsual.empty(*shape))

    def absorb(self, batch: pa.RecordBatch, codes: Int64, reference: Mapping[str, Summary]) -> None:
        """Take vectors with their codes; `reference` is the champion's, empty before the first."""
        self._waiting.append((batch.select(list(self.features)), codes))
        self._waiting_rows += batch.num_rows
        if self._waiting_rows >= _CHUNK_ROWS:
            self.settle(reference)

    def settle(self, reference: Mapping[str, Summary]) -> None:
        """Count the rows that wait."""
        if not self._waiting:
            return
        batch = together([batch for batch, _ in self._waiting])
        codes = np.concatenate([codes for _, codes in self._waiting])
        self._waiting, self._waiting_rows = [], 0
        for code in codes.T:
            self.rows += np.bincount(code[code >= 0], minlength=self.slices)
        columns, references = [batch.column(name) for name in self.features], [reference.get(name) for name in self.features]
        add_values(self.counts, codes, columns, references)

    def promote(self) -> None:
        """Keep what has been usual so far for a new champion."""
        self.frozen = self.usual.settled()

    def close(self, bounds: ValueBounds, active: Collection[_Active]) -> list[SliceMeasure]:
        """End a day; returns what is beyond half of its bound, or lasts, in the slices whose window ends with it.

        Parameters
        ----------
        active
            Conditions that last: kind, feature and slice.
        """
        busy = self.rows > 0
        self.windows[busy] += 1
        ended = np.flatnonzero(self.rows >= LEAST_ROWS)
        given_up = np.flatnonzero((self.windows >= _MOST_WINDOWS) & (self.rows < LEAST_ROWS))
        self.small = (self.small | set(given_up.tolist())) - set(ended.tolist())
        measures: list[SliceMeasure] = []
        if self.frozen is not None:
            judged = ended[self.frozen.windows[ended] >= LEAST_HISTORY]
            measures = self._measures(judged, self.frozen, bounds, active)
        if ended.size:
            missing = self.counts["missing"][ended] / self.rows[ended][:, None]
            self.usual = replace(self.usual, now=self.usual.now.learned(ended, WindowFigures(missing, *self._logs(ended))))
        self.usual = self.usual.next_day()
        self._clear(np.concatenate([ended, given_up]))
        return measures

    def judges(self, code: int) -> bool:
        """Whether a slice's values are held against anything."""
        return self.frozen is not None and bool(self.frozen.windows[code] >= LEAST_HISTORY) and code not in self.small

    def forget(self, codes: Sequence[int]) -> None:
        """Begin anew for codes that are used anew."""
        chosen = list(codes)
        self._clear(np.array(chosen, np.int64))
        self.usual = self.usual.without(chosen)
        self.frozen = self.frozen and self.frozen.without(chosen)
        self.small -= set(chosen)

    def snapshot(self) -> dict[str, Any]:
        """State as texts; what waits is to be settled before."""
        packed = {"rows": self.rows, "windows": self.windows, **self.counts}
        return {
            "small": sorted(self.small),
            "arrays": {name: base64.b64encode(values.tobytes()).decode() for name, values in packed.items()},
            "usual": self.usual.snapshot(),
            "frozen": None if self.frozen is None else self.frozen.snapshot(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take the state of a snapshot."""
        arrays, shape = state["arrays"], (self.slices, len(self.features))

        def integers(name: str) -> Int64:
            return np.frombuffer(base64.b64decode(arrays[name]), np.int64).copy()

        self.rows, self.windows = integers("rows"), integers("windows")
        self.counts = {name: integers(name).reshape(shape) for name in COUNTS}
        self.usual = UsualSoFar.load(state["usual"])
        self.frozen = None if state["frozen"] is None else SliceUsual.load(state["frozen"])
        self.small = set(state["small"])

    def _logs(self, chosen: Int64) -> tuple[Float64, Float64, NDArray[np.bool_]]:
        """Return mean and spread of the logarithms of the values of slices, and where these have one sign and are enough."""
        logs = self.counts["logs"][chosen]
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = self.counts["log_sum"][chosen] / UNIT / logs
            spread = np.sqrt(np.maximum(self.counts["log_squares"][chosen] / UNIT / logs - mean**2, 0.0))
            negative = self.counts["negative"][chosen] / logs
        return mean, spread, (logs >= LEAST_ROWS / 2) & ((negative <= 1 - _ONE_SIGN) | (negative >= _ONE_SIGN)) & (spread > 0)

    def _measures(self, judged: Int64, frozen: SliceUsual, bounds: ValueBounds, active: Collection[_Active]) -> list[SliceMeasure]:
        if not judged.size:
            return []
        usual = {name: values[judged] for name, values in frozen.figures.items()}
        rows = self.rows[judged][:, None]
        share = self.counts["missing"][judged] / rows
        near = np.clip(share, usual["low"], usual["high"])
        noise = _SIGMAS * np.sqrt(np.maximum(near * (1 - near), 1 / rows) / rows)
        distance, missing_bound = np.abs(share - near), np.maximum(np.maximum(bounds.missing_shift, usual["high"] - usual["low"]), noise)
        outside = self.counts["outside"][judged] / np.maximum(rows - self.counts["missing"][judged], 1)
        least = np.array([min(1.0, bounds.outside.get(name, 1.0)) for name in self.features])
        # A hundred rows of a cold day: as many as the bound lets pass, and their chance.
        outside_bound = least + _SIGMAS * np.sqrt(least * (1 - least) / rows)
        scaling = self._scaling(judged, rows, usual, bounds)
        far = np.abs(scaling.moved)
        measures: list[SliceMeasure] = []

        def measure(kind: Kind, row: int, place: int, detector: str, statistic: Float64, bound: Float64, told: str, **more: float) -> None:
            evidence = {"missing": float(share[row, place]), "outside": float(outside[row, place]), "rows": float(rows[row, 0]), **more}
            own = float(statistic[row, place]), float(bound[row, place])
            measures.append(SliceMeasure(kind, self.features[place], int(judged[row]), detector, *own, told, evidence))

        for row, place in self._worth(judged, distance, missing_bound, ("missing",), active):
            low, high = usual["low"][row, place], usual["high"][row, place]
            told = f"{share[row, place]:.1%} missing, usually {low:.1%} to {high:.1%}"
            measure("missing", row, place, "missing_share", distance, missing_bound, told)
        for row, place in self._worth(judged, outside, outside_bound, ("range", "category"), active):
            kind: Kind = "category" if self.features[place] in bounds.categories else "range"
            told = f"{outside[row, place]:.1%} of the values outside of what was seen, bound {outside_bound[row, place]:.1%}"
            measure(kind, row, place, "outside_share", outside, outside_bound, told)
        for row, place in self._worth(judged, far, scaling.bound, ("units",), active):
            factor = float(np.exp(scaling.moved[row, place]))
            told = f"values are {factor:.4g} times what they were, as after a change of {_KNOWN_NAMES[int(scaling.nearest[row, place])]}"
            measure("units", row, place, "scale_factor", far, scaling.bound, told, factor=factor)
        return measures

    def _scaling(self, judged: Int64, rows: Int64, usual: Mapping[str, Float64], bounds: ValueBounds) -> _Scaling:
        """Return by which known factor the values of each feature in each judged slice have moved."""
        is_measured = np.array([name not in bounds.without_units for name in self.features], np.bool_)
        is_whole = np.array([name in bounds.whole for name in self.features], np.bool_)
        is_measured = is_measured & (~is_whole | have_fractions(self.counts["fractions"][judged], self.counts["logs"][judged]))
        mean, spread, has_logs = self._logs(judged)
        with np.errstate(invalid="ignore", divide="ignore"):
            moved = mean - usual["log_mean"]
            # What a hundred rows leave unsure: of their mean, and of their spread.
            error, unsure = spread / np.sqrt(rows), 1 / np.sqrt(2 * rows)
            is_scaled = is_measured & has_logs & (usual["log_windows"] >= LEAST_HISTORY)
            is_scaled &= np.abs(spread / usual["log_spread"] - 1) < _SAME_SPREAD + 2 * unsure
        bound = np.maximum(np.maximum(_LEAST_FACTOR_LOG, _REACH * usual["log_far"]), _SIGMAS * np.nan_to_num(error))
        nearest = np.abs(moved[..., None] - _KNOWN).argmin(axis=-1) if moved.size else np.zeros(moved.shape, np.int64)
        is_scaled &= np.abs(moved - _KNOWN[nearest]) < _SAME + 2 * np.nan_to_num(error)
        return _Scaling(np.where(is_scaled, moved, 0.0), bound, nearest)

    def _worth(self, judged: Int64, statistic: Float64, bound: Float64, kinds: tuple[Kind, ...], active: Collection[_Active]) -> list[list[int]]:
        """Return (slice, feature) of what is beyond half of its bound, then of what lasts."""
        places: list[list[int]] = np.argwhere(statistic > CALM_LEVEL * bound).tolist()
        if not active:
            return places
        lasting = [
            [row, place]
            for row, code in enumerate(judged.tolist())
            for place, name in enumerate(self.features)
            if any((kind, name, code) in active for kind in kinds)
        ]
        return [*places, *(one for one in lasting if one not in places)]

    def _clear(self, chosen: Int64) -> None:
        self.rows[chosen] = self.windows[chosen] = 0
        for values in self.counts.values():
            values[chosen] = 0
