"""The last labels of a champion, and the absolute bounds that its metrics on them must keep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.services.drift.domain.quality import request_keys
from tidemill.services.drift.domain.rows import OutcomeRows
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.statistics.intervals import interval_figures
from tidemill.shared.statistics.propensity import weighted_mean


@dataclass(frozen=True, slots=True)
class MetricBound:
    """A bound on a metric by name: least value, or (not a floor) greatest one."""

    metric: str
    bound: float
    is_floor: bool


@dataclass(frozen=True, slots=True)
class MetricOfLabels:
    """A bounded metric of the last labels."""

    metric: str
    value: float
    bound: float
    broken: bool
    labels: int
    words: str
    evidence: Mapping[str, float]


@dataclass(slots=True)
class RecentLabels:
    """Label, scores, class, interval and weight of the last requests that got a label; nothing is kept without a bound.

    A correction replaces the label of its request, in its place. One of a request that is no longer among the last ones changes nothing: it would
    take the place of a later request, and those that are corrected are no fair sample.
    """

    bounds: Sequence[MetricBound]
    count: int
    rows: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def absorb(self, kind: Kind, rows: OutcomeRows, chosen: NDArray[np.bool_]) -> None:
        """Take labelled rows in order."""
        if not self.bounds:
            return
        columns = (
            rows.label[chosen],
            rows.scores_of(kind, chosen),
            rows.predicted[chosen],
            rows.lower[chosen],
            rows.upper[chosen],
            rows.weight[chosen],
        )
        revisions = rows.revision[chosen].tolist()
        for key, row, revision in zip(request_keys(rows, chosen), zip(*(column.tolist() for column in columns), strict=True), revisions, strict=True):
            if revision == 0 or key in self.rows:
                self.rows[key] = row
        for oldest in list(islice(self.rows, max(0, len(self.rows) - self.count))):
            del self.rows[oldest]

    def widen(self, kind: Kind) -> None:
        """Make room for the classes that a kind has more."""
        self.rows = {key: (label, [*scores, *[0.0] * (kind.width - len(scores))], *rest) for key, (label, scores, *rest) in self.rows.items()}

    def judged(self, kind: Kind) -> list[MetricOfLabels]:
        """Hold every bounded metric against its bound, once there are enough labels; one that is undefined says nothing."""
        if not self.bounds or len(self.rows) < self.count:
            return []
        label, scores, predicted, lower, upper, weight = (np.array(column) for column in zip(*self.rows.values(), strict=True))
        with np.errstate(over="ignore", invalid="ignore"):
            weights = None if (weight == 1.0).all() else weight
            figures = kind.figures(label, scores, predicted, weights) | interval_figures(label, lower, upper)
        judged_days = []
        for one in self.bounds:
            value = figures.get(one.metric)
            if value is None:
                continue
            broken = value < one.bound if one.is_floor else value > one.bound
            name = one.metric.replace("_", " ")
            words = f"{'AUC' if name == 'auc' else name} {value:.4g} {'below' if one.is_floor else 'above'} {one.bound:g}"
            evidence = {one.metric: value, "labels": float(len(label))}
            if kind.name == "binary":
                evidence["positive_rate"] = weighted_mean(label, weights)
            judged_days.append(MetricOfLabels(one.metric, value, one.bound, broken, len(label), words, evidence))
        return judged_days

    def clear(self) -> None:
        """Begin anew for another champion."""
        self.rows.clear()

    def snapshot(self) -> list[list[Any]]:
        """State as plain lists and numbers."""
        return [[key, *row] for key, row in self.rows.items()]

    def load(self, state: Sequence[Sequence[Any]]) -> None:
        """Take the state of a snapshot."""
        self.rows = {key: tuple(row) for key, *row in state}
