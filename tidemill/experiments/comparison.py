"""Trials side by side: ranked, each held against the best one, and the ones that stand out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tidemill.experiments.configuration import Configuration
from tidemill.experiments.precision_recall import best_f1
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.statistics.paired_test import paired_block_test

_SURE = 0.05


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial that has ended.

    Attributes
    ----------
    number
        Place among the configurations, from 1.
    status, reason
        ``done``, ``failed`` (it cannot be trained) or ``died`` (its process ended, or it took too long), and why.
    result
        What `run_trial` returned; empty where it failed.
    """

    number: int
    configuration: Configuration
    status: str
    reason: str
    result: Mapping[str, Any] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """Mean loss over all judged rows; infinite where it failed."""
        return float(self.result.get("loss", np.inf))


@dataclass(frozen=True, slots=True)
class TrialDifference:
    """A trial and its difference from the best one.

    Attributes
    ----------
    behind, sure
        Mean loss above the best one's on the same rows, and whether that is beyond the noise of days (paired test, 5 %, not corrected for the number
        of trials).
    """

    trial: Trial
    behind: float
    sure: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """All trials of an experiment.

    Attributes
    ----------
    rows
        By loss; those that failed come last, by number.
    best_loss, best_metric, best_trade_off, fastest
        The smallest loss; the best headline metric; the best precision and recall (average precision, and F1 at its own threshold; none for
        regressions); the least processor time, of those whose loss is within the margin of the smallest. None where no trial was done.
    margin
        Loss that counts as none: the gate's own margin.
    """

    kind: Kind
    rows: tuple[TrialDifference, ...]
    margin: float = 0.0
    best_loss: Trial | None = None
    best_metric: Trial | None = None
    best_trade_off: Trial | None = None
    fastest: Trial | None = None

    @property
    def done(self) -> list[Trial]:
        """Those that were trained, by loss."""
        return [row.trial for row in self.rows if row.trial.status == "done"]

    @property
    def failed(self) -> list[Trial]:
        """The others."""
        return [row.trial for row in self.rows if row.trial.status != "done"]


def compare(kind: Kind, trials: Sequence[Trial], margin: float) -> Comparison:
    """Rank trials.

    Parameters
    ----------
    margin
        Loss that a faster one may lose: nats, for regression a share of the smallest squared error.
    """
    ranked = sorted(trials, key=lambda trial: (trial.loss, trial.number))
    done = [trial for trial in ranked if trial.status == "done"]
    if not done:
        return Comparison(kind, tuple(TrialDifference(trial, float("nan"), False) for trial in ranked))
    rows = tuple(_held_against(trial, done[0]) for trial in ranked)
    allowed = margin * done[0].loss if kind.name == "regression" else margin
    as_good = [trial for trial in done if trial.loss <= done[0].loss + allowed]
    name, sign = kind.headline, 1.0 if kind.headline in kind.rising else -1.0
    known = [trial for trial in done if name in trial.result["figures"]]
    ranking = [trial for trial in done if "average_precision" in trial.result["figures"]]
    return Comparison(
        kind,
        rows,
        allowed,
        best_loss=done[0],
        best_metric=max(known, key=lambda trial: sign * trial.result["figures"][name], default=None),
        best_trade_off=max(ranking, key=lambda trial: trial.result["figures"]["average_precision"], default=None),
        fastest=min(as_good, key=lambda trial: (trial.result["train_s"], trial.number), default=None),
    )


def trade_off(trial: Trial) -> tuple[float, float, float, float] | None:
    """Return F1, recall, precision and threshold where F1 is largest."""
    return best_f1(trial.result.get("curve", []))


def _held_against(trial: Trial, best: Trial) -> TrialDifference:
    if trial.status != "done":
        return TrialDifference(trial, float("nan"), False)
    if trial is best:
        return TrialDifference(trial, 0.0, False)
    # Rows of a day share their error: days, not rows, are the observations.
    theirs = {day: loss for day, _, loss, _ in best.result["days"]}
    days, weights, gaps = (
        np.array(part) for part in zip(*((day, weight, loss - theirs[day]) for day, _, loss, weight in trial.result["days"]), strict=True)
    )
    test = paired_block_test(gaps / weights, days, weights)
    return TrialDifference(trial, test.mean, bool(test.mean > 0 and test.p_value < _SURE))
