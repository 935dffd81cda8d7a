"""Figures of a version's labelled answers: by week, by slice, by group, and what its probabilities meant."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.cards.answers import LabelledAnswers
from tidemill.services.retraining.domain.examples import DAY_MS
from tidemill.services.retraining.domain.fairness import FairnessFindings, judge_fairness
from tidemill.services.retraining.domain.probabilities import answered_probability
from tidemill.shared.application.gate_policy import Fairness
from tidemill.shared.avro.times import instant_text
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.statistics.propensity import of_rows

LEAST = 50
_WEEK_DAYS, _BINS, _MOST_SLICES = 7, 10, 40


@dataclass(frozen=True, slots=True)
class Part:
    """Figures of some rows; those that are undefined on them are missing."""

    name: str
    rows: int
    loss: float
    figures: dict[str, float]


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of about equal probability: what was said, how often it was so, with a 95 % interval."""

    said: float
    share: float
    low: float
    high: float
    rows: int


def part(kind: Kind, rows: LabelledAnswers, name: str, chosen: NDArray[np.bool_] | None = None) -> Part:
    """Return the figures of chosen rows."""
    taken = np.ones(len(rows), np.bool_) if chosen is None else chosen
    labels, scores, weights = rows.labels[taken], rows.scores[taken], of_rows(rows.weights, taken)
    if not len(labels):
        return Part(name, 0, float("nan"), {})
    losses = kind.losses(labels, scores)
    loss = float(losses.mean() if weights is None else (losses * weights).sum() / weights.sum())
    return Part(name, len(labels), loss, kind.figures(labels, scores, rows.predicted[taken].astype(np.int32), weights))


def by_week(kind: Kind, rows: LabelledAnswers) -> list[Part]:
    """Return the figures of each week of requests that has fifty labels, named by its first day."""
    weeks = rows.request_ms // (_WEEK_DAYS * DAY_MS)
    kept = [week for week in np.unique(weeks).tolist() if (weeks == week).sum() >= LEAST]
    return [part(kind, rows, instant_text(week * _WEEK_DAYS * DAY_MS)[:10], weeks == week) for week in kept]


def by_value(kind: Kind, rows: LabelledAnswers, columns: Sequence[str]) -> list[Part]:
    """Return the figures of each value of each column that has fifty labels, the largest first, forty of a column at most."""
    parts = []
    for column in columns:
        if column not in rows.columns.columns:
            continue
        values = np.array(["" if value is None else str(value) for value in rows.columns[column].to_list()])
        names, counts = np.unique(values, return_counts=True)
        for place in np.argsort(-counts, kind="stable")[:_MOST_SLICES].tolist():
            if counts[place] >= LEAST:
                parts.append(part(kind, rows, f"{column} = {names[place] or 'missing'}", values == names[place]))
    return parts


def fairness(rows: LabelledAnswers, limits: Fairness) -> FairnessFindings:
    """Judge served answers as the gate judges a candidate's."""
    groups: dict[str, NDArray[np.bool_]] = {}
    for column in limits.columns:
        if column in rows.columns.columns:
            values = np.array(["" if value is None else str(value) for value in rows.columns[column].to_list()])
            groups |= {f"{column}={name}": values == name for name in np.unique(values).tolist()}
    return judge_fairness(rows.labels, rows.predicted.astype(np.int32), rows.request_ms // DAY_MS, groups, limits, rows.weights)


def reliability(kind: Kind, rows: LabelledAnswers) -> list[Bin]:
    """Return ten bins of equal size by the probability that was said: of 1 (binary), of the class that was answered (several). Regressions have none.

    Intervals are Wilson's.
    """
    if kind.name == "regression" or len(rows) < LEAST:
        return []
    truth, said = answered_probability(kind, rows.labels, rows.scores)
    bins = []
    for places in np.array_split(np.argsort(said, kind="stable"), _BINS):
        if len(places):
            n, share = len(places), float(truth[places].mean())
            middle, spread = share + 1.92 / n, 1.96 * float(np.sqrt(share * (1 - share) / n + 0.9604 / n**2))
            scale = 1 + 3.8416 / n
            bins.append(Bin(float(said[places].mean()), share, (middle - spread) / scale, (middle + spread) / scale, n))
    return bins
