"""What a challenger has shown beside the champion, block by block, through its stages."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tidemill.services.control.domain.ab import ABTest
from tidemill.shared.application.gate_policy import Fairness
from tidemill.shared.application.stages import Stages
from tidemill.shared.statistics.levels import YEAR_MS, level_left, next_level

OF_TRIALS = 0.75
"""What trials may spend of the yearly level. With all of it 5.2 % of years of days that go together (.3) promoted a challenger that is too bad."""

STAGE_WORDS = {"shadow": "in shadow", "canary": "as a canary", "ab": "in an A/B test"}


@dataclass(frozen=True, slots=True)
class StagePolicy:
    """What one model's challengers have to show.

    Attributes
    ----------
    kind
        Of the model.
    margin, slice_margin
        How much worse a challenger may be on the whole and in a slice: nats of log loss; of a regression, a share of the champion's loss.
    level
        Probability with which any challenger that is worse by the margin is promoted within a year; also that of stepping back one that is not worse.
    fairness
        The gate's limits on how differently groups are answered; None: that is not judged.
    """

    model: str
    kind: str
    stages: Stages
    margin: float
    slice_margin: float
    level: float
    fairness: Fairness | None = None


_MEASURED = ("champion_loss", "difference_mean", "champion_score", "champion_truth", "challenger_score", "challenger_truth")


def has_figures(record: Mapping[str, Any]) -> bool:
    """Whether a record of a trial has labels, and every figure of them is a finite number: nothing else is evidence."""
    return record["labels"] > 0 and all(record[name] is not None and math.isfinite(record[name]) for name in _MEASURED)


@dataclass(slots=True)
class TrialBlock:
    """Labelled requests of one block of time."""

    labels: int = 0
    positives: int = 0
    champion_loss: float = float("nan")
    difference: float = float("nan")
    excess: float = 0.0
    yes: int = 0
    hits: int = 0
    begins_ms: int = -1
    champion: str = ""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "TrialBlock":
        """From a record of a trial (`tidemill.Trial`) that `has_figures`."""
        off, champion_off = (abs(record[f"{whose}_score"] - record[f"{whose}_truth"]) for whose in ("challenger", "champion"))
        answers = record["challenger_yes"], record["challenger_hits"]
        return cls(
            record["labels"],
            record["positives"],
            record["champion_loss"],
            record["difference_mean"],
            off - champion_off,
            *answers,
            record["block_start"],
            record["champion_version"],
        )


@dataclass(slots=True)
class TrialState:
    """One challenger, through its stages.

    Attributes
    ----------
    unscored, unscored_by_both
        Requests of the stage for which the challenger has no score, and those of them for which the champion has none either: they waited too long.
    level
        Of its test of being no worse; 0 before the first look.
    spent
        Instant and level of the first looks at the model's challengers in the last year, its own included.
    asked_as_refit
        Decision that asks the worker to promote it if it is a refit; empty before that.
    is_new_recipe
        Whether the worker has answered that it is none.
    has_looked_worse
        Whether it had baked, as a refit, and its loss was larger than a refit's may be.
    """

    version: str
    sequence: int
    stage: str
    began_in: str
    trial_begins_ms: int
    stage_begins_ms: int
    stage_labels: int = 0
    requests: int = 0
    unscored: int = 0
    decided: bool = False
    unscored_by_both: int = 0
    level: float = 0.0
    spent: list[tuple[int, float]] = field(default_factory=list)
    slices: dict[str, list[TrialBlock]] = field(default_factory=dict)
    ab: ABTest | None = None
    asked_as_refit: str = ""
    is_new_recipe: bool = False
    has_looked_worse: bool = False

    @property
    def blocks(self) -> list[TrialBlock]:
        """Those of all requests."""
        return self.slices.get("", [])

    def spend(self, now_ms: int, yearly: float, figures: dict[str, float]) -> float:
        """Return the level of the trial's test, drawn at its first look from what the year has left; all later looks are at the same level.

        A challenger that goes back before anybody looked spends nothing, nor does a refit, which shows nothing.
        """
        account = OF_TRIALS * yearly
        if not self.level:
            self.level = next_level(self.spent, now_ms, account)
            self.spent = [*((at_ms, level) for at_ms, level in self.spent if at_ms > now_ms - YEAR_MS), (now_ms, self.level)]
        figures |= {"level": self.level, "level_left": level_left(self.spent, now_ms, account)}
        return self.level


def figures_of(trial: TrialState) -> dict[str, float]:
    """Return what a decision on a trial rests on first: how much was seen, and the losses."""
    figures = figures_of_blocks(trial.blocks) | {"stage_labels": float(trial.stage_labels), "requests": float(trial.requests)}
    return figures | {"unscored": float(trial.unscored), "unscored_by_both": float(trial.unscored_by_both)}


def figures_of_blocks(blocks: Sequence[TrialBlock]) -> dict[str, float]:
    """Return how many labels blocks have, and the losses on them; without a label no losses."""
    labels = np.array([block.labels for block in blocks], np.float64)
    total = float(labels.sum())
    figures = {"trial_blocks": float(len(blocks)), "trial_labels": total}
    if total:
        champion = float((labels * [block.champion_loss for block in blocks]).sum() / total)
        difference = float((labels * [block.difference for block in blocks]).sum() / total)
        figures |= {"champion_loss": champion, "challenger_loss": champion + difference, "loss_difference": difference}
    return figures


def margin_of(margin: float, kind: str, figures: Mapping[str, float]) -> float:
    """Return a margin in the unit of the loss: of a regression it is a share of the champion's loss."""
    return margin * figures.get("champion_loss", 0.0) if kind == "regression" else margin


def losses_of(figures: Mapping[str, float]) -> str:
    """Return both losses in words."""
    if "champion_loss" not in figures:
        return "no labelled request"
    shown = f"loss {figures['challenger_loss']:.4f} against {figures['champion_loss']:.4f}"
    return f"{shown} on {figures['trial_labels']:,.0f} labels of {figures['trial_blocks']:.0f} blocks"


def days_of(duration_ms: int) -> str:
    """Return a duration in words."""
    return f"{duration_ms / 86_400_000:.3g} days"
