"""Whether the distribution of a champion's own answers has shifted: each window against all that it answered before."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.drift.domain.conditions import Conditions
from tidemill.services.drift.domain.feature_shifts import FeatureShifts, Unharmed
from tidemill.services.drift.domain.features import Day, FeatureColumn, FeatureFold
from tidemill.services.drift.domain.findings import Coordinates, Finding
from tidemill.services.drift.domain.null_shifts import WINDOWS_KEPT, NullShifts
from tidemill.services.drift.domain.rows import PredictionRows
from tidemill.services.drift.domain.shifts import Shift, shifts_of
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.statistics.sketch import Sketch

_LEAST_DAYS = 14 + 7


@dataclass(slots=True)
class AnswerShifts:
    """Scores (of several classes the classes answered) of one champion, window by window, as those of a feature.

    A window is held against what the champion answered before it, once that is 14 days: what it would say of the rows that it learned from is not
    known, and would be too sure. Windows, distances and test are those of the features: the null is how windows differ from what came before
    them, of this champion and those before it (the last 90; below 30 nothing is tested), without those that were found. It is a family of one
    hypothesis, apart from the features, with e-LOND over the champion's windows. A shift that lasts becomes part of what came before.

    Attributes
    ----------
    days
        Days with answers of this champion that are over.
    null
        Distances of windows, of all champions; the newest last.
    shift
        Of the window that is being closed; not part of the state.
    """

    kind: Kind
    psi: float
    min_rows: int
    days: int = 0
    null: list[list[float]] = field(default_factory=list)
    fold: FeatureFold = field(init=False)
    tests: FeatureShifts = field(init=False)
    shift: Shift | None = None

    def __post_init__(self) -> None:
        self.fold = FeatureFold([self.column])
        self.tests = FeatureShifts(self.psi, self.min_rows, "prediction")

    @property
    def column(self) -> FeatureColumn:
        """What is compared: the classes answered, or the scores."""
        return FeatureColumn("classes", "string") if self.kind.has_classes else FeatureColumn("scores", "double")

    def begin(self) -> None:
        """Begin anew for another champion; how windows differ stays known."""
        self.fold, self.days = FeatureFold([self.column]), 0
        self.tests.begin(NullShifts())

    def absorb(self, rows: PredictionRows, chosen: NDArray[np.bool_]) -> None:
        """Take answers; `chosen` are the champion's, shape (n,)."""
        if not chosen.any():
            return
        if self.kind.has_classes:
            names = np.array([*self.kind.classes], dtype=np.object_)
            values = pa.array(names[np.clip(rows.predicted[chosen], 0, len(names) - 1)], pa.string())
        else:
            values = pa.array(rows.score[chosen], pa.float64())
        self.fold.absorb(pa.RecordBatch.from_arrays([values], names=[self.column.name]))

    def close(self, at: Coordinates, version: str, day: int, conditions: Conditions, unharmed: Unharmed) -> list[Finding]:
        """End a day: hold the window that ends with it against what came before, if that is enough."""
        name, self.shift = self.column.name, None
        if not self.fold.close_day(day).rows:
            return []
        self.days += 1
        measured = self.fold.measured.get(name)
        if self.days < _LEAST_DAYS or measured is None:
            return []
        shifts = shifts_of(self.fold.history, self.fold.window)
        self.shift = shifts[name]
        self.tests.null = NullShifts.of({name: self.null})
        findings = self.tests.look(at, version, conditions, shifts, importance={}, unharmed=unharmed, tested=True)
        if self.tests.severities.get(name, 0.0) <= 1:
            self.null = [*self.null, measured][-WINDOWS_KEPT:]
        return findings

    def figures(self) -> dict[str, float]:
        """Return what `health` says of the window."""
        figures = {} if self.shift is None else {"prediction_psi": self.shift.psi, "prediction_js": self.shift.js, "prediction_ks": self.shift.ks}
        severity = self.tests.severities.get(self.column.name) if self.shift is not None else None
        return figures | ({} if severity is None else {"prediction_shift": severity})

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists, numbers and texts."""
        name = self.column.name
        self.fold.settle()
        ring = [[one.day, one.rows, one.summaries[name].snapshot()] for one in self.fold.ring]
        own = {"today": self.fold.today[name].snapshot(), "history": self.fold.history[name].snapshot(), "ring": ring, "rows": self.fold.rows}
        return {"days": self.days, "null": self.null, "known": list(self.fold.null[name]), "tests": self.tests.snapshot(), **own}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take the state of a snapshot."""
        column, fold = self.column, FeatureFold([self.column])
        fold.today[column.name], fold.history[column.name] = column.load(state["today"]), column.load(state["history"])
        fold.rows, fold.ring = state["rows"], [_day(column, *one) for one in state["ring"]]
        self.fold, self.days, self.null = fold, state["days"], [list(one) for one in state["null"]]
        fold.null[column.name] = [list(one) for one in state["known"]]
        self.tests.load(state["tests"], NullShifts())


def _day(column: FeatureColumn, day: int, rows: int, summary: dict[str, Any]) -> Day:
    return Day(day, rows, {column.name: column.load(summary)}, Sketch.empty())
