"""Which of two versions an A/B test has shown to be better: a fold over the blocks of the test, looked at after every one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from scipy.special import ndtri

from tidemill.shared.application.stages import ABStage
from tidemill.shared.statistics.sequential_interval import SequentialInterval, sequential_interval
from tidemill.shared.statistics.sticky_arms import StickyArms

_OF_SIDE, _OF_ARMS = 0.3, 0.1
"""What is spent of the level: on each side of the metric; on each side of the arms, and as much once more on either side for their entities."""

Winner = Literal["challenger", "champion", "nobody"]


@dataclass(frozen=True, slots=True)
class ABVerdict:
    """Who has won and why, in words."""

    winner: Winner
    reason: str


@dataclass(slots=True)
class ABTest:
    """One comparison of a champion and a challenger, which both stay what they are.

    Two things are looked at, each by block of time (a day), because requests of one share their error.

    The *loss* of both on all requests, paired: it sees small differences, and is right as long as an answer does not change what its label will be.
    The *labels* of each arm, by who had to answer: they are what the answers have done, which no pairing can show. They see less. Which entities an
    arm has got does not average out over days, so the interval is widened by what that may be.

    Replay-safe; it lives on journal time.

    Attributes
    ----------
    sequence
        Lifecycle event that began it.
    differences, arms
        By block: challenger's loss minus champion's, and label of its arm minus that of the champion's.
    counts
        Labels by block, and in each arm: challenger's, champion's.
    champion_loss
        Sum over labels.
    label_sums
        Of the labels in each arm.
    """

    sequence: int
    begins_ms: int
    differences: list[float] = field(default_factory=list)
    arms: list[float] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    champion_loss: float = 0.0
    arm_labels: list[int] = field(default_factory=lambda: [0, 0])
    label_sums: list[float] = field(default_factory=lambda: [0.0, 0.0])
    entities: StickyArms = field(default_factory=StickyArms)

    def take(self, record: Mapping[str, Any]) -> None:
        """Add a block (`tidemill.Trial`, the whole of it)."""
        if record["labels"]:
            self.differences.append(record["difference_mean"])
            self.labels.append(record["labels"])
            self.champion_loss += record["labels"] * record["champion_loss"]
        if record["arm_difference"] is not None:
            self.arms.append(record["arm_difference"])
            self.entities.add(record["arm_weights"], record["arm_sums"])
            for place, arm in enumerate(("challenger", "champion")):
                self.arm_labels[place] += record[f"{arm}_arm_labels"]
                self.label_sums[place] += record[f"{arm}_arm_labels"] * record[f"{arm}_arm_label"]

    def snapshot(self) -> dict[str, Any]:
        """Return the state as JSON can hold it."""
        state = {name: getattr(self, name) for name in self.__slots__}
        return {**state, "entities": self.entities.snapshot()}

    @staticmethod
    def load(state: Mapping[str, Any]) -> "ABTest":
        """From a snapshot."""
        return ABTest(**{**state, "entities": StickyArms.load(state["entities"])})


def compare(
    test: ABTest, stage: ABStage, level: float, margin: float, ends_ms: int, figures: dict[str, float], drawn: float | None = None
) -> ABVerdict | None:
    """Return who has won; None while the test goes on.

    Each version is shown to be the better one with a probability of error of 0.3 of the level, over all looks together; the challenger with one of
    `drawn`, where that is less. The test ends without a
    winner once the difference is shown to lie within the margin, when the time is over, and, where the loss is the metric, once labels differ between
    the arms: then answers influence them, and the loss of an answer that was not given cannot be known.

    Parameters
    ----------
    margin
        In the unit of the loss, where the application names none for the test.
    ends_ms
        End of the last block, in journal time.
    figures
        Receives what the verdict rests on.
    drawn
        Level at which the challenger wins, where it is drawn from an account; None: as that of the champion.
    """
    loss = sequential_interval(test.differences, _OF_SIDE * level)
    by_label = stage.metric == "label"
    spent = _OF_SIDE if by_label else _OF_ARMS
    # Both arms keep their entities from the first day to the last: that is drawn once, so it takes a quantile and no sequence of looks.
    slack = -float(ndtri(_OF_ARMS * level)) * test.entities.standard_error() if test.arms else 0.0
    arms = sequential_interval(test.arms, spent * level, slack)
    side = _OF_SIDE * level if drawn is None else min(drawn, _OF_SIDE * level)
    figures |= _figures(test, loss, arms)
    metric = arms if by_label else loss
    promoting = metric if drawn is None else sequential_interval(test.arms if by_label else test.differences, side, metric.slack)
    sign = -1.0 if by_label and stage.better == "higher" else 1.0
    allowed = stage.margin if stage.margin is not None else (None if by_label else margin)
    figures |= {"needed_log_e": -float(np.log(side)), "detectable_difference": promoting.detectable}
    shown = _words(test, metric, by_label)
    if not by_label and (arms.is_above or arms.is_below):
        low, high = f"{arms.low:+.4f}", f"{arms.high:+.4f}"
        return ABVerdict("nobody", f"labels differ between the arms ({low} to {high}): answers influence them; ask for metric: label. {shown}")
    if promoting.is_below if sign > 0 else promoting.is_above:
        return ABVerdict("challenger", _words(test, promoting, by_label))
    if metric.is_above if sign > 0 else metric.is_below:
        return ABVerdict("champion", shown)
    if allowed is not None and metric.is_within(allowed):
        return ABVerdict("nobody", f"no difference of {allowed:.3g} or more: {shown}")
    if ends_ms - test.begins_ms >= stage.duration:
        return ABVerdict("nobody", f"no difference shown within {stage.duration / 86_400_000:.3g} days: {shown}{_could_have_seen(metric)}")
    return None


def _figures(test: ABTest, loss: SequentialInterval, arms: SequentialInterval) -> dict[str, float]:
    figures = {"ab_blocks": float(len(test.differences)), "ab_labels": float(sum(test.labels))}
    if test.differences:
        labels = np.array(test.labels, np.float64)
        champion, difference = test.champion_loss / labels.sum(), float((labels * test.differences).sum() / labels.sum())
        figures |= {"champion_loss": champion, "challenger_loss": champion + difference, "loss_difference": difference}
    for name, interval in (("loss_difference", loss), ("arm_difference", arms)):
        figures |= {f"{name}_low": interval.low, f"{name}_high": interval.high, f"{name}_by_block": interval.mean}
        figures |= {f"{name}_log_e_lower": interval.log_e_below, f"{name}_log_e_higher": interval.log_e_above}
    for place, arm in enumerate(("challenger", "champion")):
        figures[f"{arm}_arm_labels"] = float(test.arm_labels[place])
        if test.arm_labels[place]:
            figures[f"{arm}_arm_label"] = test.label_sums[place] / test.arm_labels[place]
    return figures


def _words(test: ABTest, metric: SequentialInterval, by_label: bool) -> str:
    if not (test.arms if by_label else test.differences):
        return "no labelled request"
    log_e = max(metric.log_e_above, metric.log_e_below)
    strength = f"e = {np.exp(min(log_e, 600.0)):.3g} of {1 / metric.level:.0f}" if np.isfinite(log_e) else "too few blocks to tell"
    bounds = f"between {metric.low:+.4f} and {metric.high:+.4f}, " if np.isfinite(metric.low) else ""
    if by_label:
        means = [total / count for total, count in zip(test.label_sums, test.arm_labels, strict=True)]
        what = f"mean label {means[0]:.4f} in its arm against {means[1]:.4f}"
        return f"{what}, a difference {bounds}{strength}, {sum(test.arm_labels):,} labels of {len(test.arms)} blocks"
    labels = np.array(test.labels, np.float64)
    champion = test.champion_loss / labels.sum()
    what = f"loss {champion + float((labels * test.differences).sum() / labels.sum()):.4f} against {champion:.4f}"
    return f"{what}, a difference {bounds}{strength}, {int(labels.sum()):,} labels of {len(test.differences)} blocks"


def _could_have_seen(metric: SequentialInterval) -> str:
    if np.isfinite(metric.detectable):
        return f"; one of {metric.detectable:.4f} either way would have been seen in 80 % of cases"
    return "; none would have been seen on so few blocks"
