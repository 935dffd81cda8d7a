"""Whether a challenger moves on, goes back or is watched longer: a fold over what it has shown beside the champion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tidemill.services.control.domain.decision import Place, decision
from tidemill.services.control.domain.group_answers import LEAST_LABELS, LEAST_OF_EACH_CLASS, unequal_answers
from tidemill.shared.application.gate_policy import Fairness
from tidemill.shared.application.stages import Stages
from tidemill.shared.statistics.eprocess import below, discoveries

_MOST_SLICES = 200
_LEAST_REQUESTS = 100
_LEAST_BLOCKS = 3
_CERTAIN = 2.0


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
        Probability of an error of each test.
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


@dataclass(slots=True)
class _Block:
    """Labelled requests of one block of time."""

    labels: int = 0
    positives: int = 0
    champion_loss: float = float("nan")
    difference: float = float("nan")
    excess: float = 0.0
    yes: int = 0
    hits: int = 0

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "_Block":
        off, champion_off = (abs(record[f"{whose}_score"] - record[f"{whose}_truth"]) for whose in ("challenger", "champion"))
        answers = record["challenger_yes"], record["challenger_hits"]
        return cls(record["labels"], record["positives"], record["champion_loss"], record["difference_mean"], off - champion_off, *answers)


@dataclass(slots=True)
class _Trial:
    """One challenger, through its stages."""

    version: str
    champion: str
    sequence: int
    stage: str
    began_in: str
    trial_begins_ms: int
    stage_begins_ms: int
    stage_labels: int = 0
    requests: int = 0
    unscored: int = 0
    decided: bool = False
    slices: dict[str, list[_Block]] = field(default_factory=dict)

    @property
    def blocks(self) -> list[_Block]:
        return self.slices.get("", [])


class StageWatch:
    """Decides for challengers by the records of their trials, in journal order.

    In shadow a challenger has to bake (time and labels); it moves on if its loss so far is not larger than the champion's by more than the
    margin. As a canary it bakes again, and it is promoted once it is shown to be no worse by the margin, on all its blocks so far. It goes back
    as soon as it is shown to be worse on the whole or in a slice (e-BH), if its mean score is farther from the mean label than the champion's by
    more than the limit, if it has no score for more requests than the limit allows, and when the longest time has not sufficed. What is shown is
    shown by t e-processes on the means of blocks, which may be looked at after every block.

    A refit of an admitted recipe, which begins as a canary where new recipes begin in shadow, is promoted when it has baked, without that evidence.

    A decision is made once for each stage of a challenger; whether the challenger still is one is the worker's to say.
    """

    def __init__(self, policies: Sequence[StagePolicy]) -> None:
        self._policies = {policy.model: policy for policy in policies}
        self._trials: dict[str, _Trial] = {}

    def trial(self, record: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Decide on a record of a trial."""
        policy = self._policies.get(record["model"])
        if policy is None:
            return []
        trial = self._followed(record)
        if trial is None:
            return []
        part = trial.slices.get(record["slice"])
        if part is None and len(trial.slices) < _MOST_SLICES:
            part = trial.slices[record["slice"]] = []
        if part is not None and record["labels"]:
            part.append(_Block.of(record))
        if record["slice"]:
            return []
        trial.stage_labels += record["labels"]
        trial.requests += record["requests"]
        trial.unscored += record["challenger_failures"]
        return [] if trial.decided else self._decide(policy, trial, record)

    def snapshot(self) -> dict[str, Any]:
        """Return the state as JSON can hold it."""
        return {
            name: {
                **{slot: getattr(trial, slot) for slot in _SLOTS},
                "slices": {part: [[getattr(block, slot) for slot in _Block.__slots__] for block in blocks] for part, blocks in trial.slices.items()},
            }
            for name, trial in self._trials.items()
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up a snapshot."""
        for name, saved in state.items():
            if name in self._policies:
                slices = {part: [_Block(*values) for values in blocks] for part, blocks in saved["slices"].items()}
                self._trials[name] = _Trial(**{slot: saved[slot] for slot in _SLOTS}, slices=slices)

    def _followed(self, record: Mapping[str, Any]) -> _Trial | None:
        """Return the trial that a record is of; None for one of an earlier stage or challenger."""
        trial, sequence = self._trials.get(record["model"]), record["challenger_sequence"]
        if trial is not None and sequence < trial.sequence:
            return None
        if trial is None or trial.version != record["challenger_version"]:
            stage, begins = record["stage"], record["block_start"]
            trial = _Trial(record["challenger_version"], record["champion_version"], sequence, stage, stage, begins, begins)
            self._trials[record["model"]] = trial
        elif sequence > trial.sequence:
            trial.sequence, trial.stage, trial.stage_begins_ms = sequence, record["stage"], record["block_start"]
            trial.stage_labels, trial.requests, trial.unscored, trial.decided = 0, 0, 0, False
        trial.champion = record["champion_version"]
        return trial

    def _decide(self, policy: StagePolicy, trial: _Trial, record: Mapping[str, Any]) -> list[dict[str, Any]]:
        stages, figures = policy.stages, _figures(trial)
        if problem := _problem(policy, trial, figures):
            return [self._said(trial, record, "step_back", problem, figures)]
        stage = stages.shadow if trial.stage == "shadow" else stages.canary
        baked = stage is None or (record["block_end"] - trial.stage_begins_ms >= stage.duration and trial.stage_labels >= stage.labels)
        if trial.stage == "shadow" and stages.canary is not None:
            if baked and figures.get("loss_difference", 0.0) <= _allowed(policy.margin, policy.kind, figures):
                words = f"in shadow for {_days(record['block_end'] - trial.stage_begins_ms)} and {trial.stage_labels:,} labels: {_losses(figures)}"
                return [self._said(trial, record, "canary", words, figures)]
        elif baked and (shown := _as_refit(policy, trial, figures) or _no_worse(policy, trial, figures)):
            return [self._said(trial, record, "promote", shown, figures)]
        if record["block_end"] - trial.trial_begins_ms >= stages.longest:
            words = f"expected to see within {_days(stages.longest)} that it is no worse, found {_losses(figures)}{_could_have_seen(policy, figures)}"
            return [self._said(trial, record, "step_back", words, figures)]
        return []

    def _said(self, trial: _Trial, record: Mapping[str, Any], action: str, reason: str, figures: Mapping[str, float]) -> dict[str, Any]:
        trial.decided = True
        at = Place(record["journal_time"], record["journal_partition"], record["journal_offset"])
        cause = f"{trial.version}:{trial.sequence}:{action}"
        said = decision(record["model"], action, "requested", "trial", cause, at, f"{trial.version} {_STAGES[trial.stage]}: {reason}")
        known = {name: value for name, value in figures.items() if np.isfinite(value)}
        return {**said, "version": trial.version, "serving": "", "figures": known}


_SLOTS = tuple(slot for slot in _Trial.__slots__ if slot != "slices")
_STAGES = {"shadow": "in shadow", "canary": "as a canary"}


def _figures(trial: _Trial) -> dict[str, float]:
    blocks = trial.blocks
    labels = np.array([block.labels for block in blocks], np.float64)
    total = float(labels.sum())
    figures = {
        "trial_blocks": float(len(blocks)),
        "trial_labels": total,
        "stage_labels": float(trial.stage_labels),
        "requests": float(trial.requests),
    }
    figures |= {"unscored": float(trial.unscored)}
    if total:
        champion = float((labels * [block.champion_loss for block in blocks]).sum() / total)
        difference = float((labels * [block.difference for block in blocks]).sum() / total)
        figures |= {"champion_loss": champion, "challenger_loss": champion + difference, "loss_difference": difference}
    return figures


def _allowed(margin: float, kind: str, figures: Mapping[str, float]) -> float:
    return margin * figures.get("champion_loss", 0.0) if kind == "regression" else margin


def _as_refit(policy: StagePolicy, trial: _Trial, figures: Mapping[str, float]) -> str:
    """Return the words for a refit of an admitted recipe that has baked; empty for others, and while its loss is larger by more than the margin.

    Its recipe has been judged. Where new recipes go through a shadow, one that begins as a canary is a refit.
    """
    if trial.began_in != "canary" or policy.stages.shadow is None:
        return ""
    larger = figures.get("loss_difference", 0.0) > _allowed(policy.margin, policy.kind, figures)
    return "" if larger else f"a refit that has baked: {_losses(figures)}"


def _no_worse(policy: StagePolicy, trial: _Trial, figures: dict[str, float]) -> str:
    """Return the words for a challenger that is shown to be no worse by the margin; empty while it is not."""
    allowed = _allowed(policy.margin, policy.kind, figures)
    evidence = below([block.difference for block in trial.blocks], allowed)
    figures |= {"log_e": evidence.log_e, "margin": allowed, "detectable_difference": evidence.detectable(allowed, policy.level)}
    if not evidence.shows(policy.level):
        return ""
    return f"{_losses(figures)}, worse by less than {allowed:.3g} (e = {evidence.e:.3g} of {1 / policy.level:.0f})"


def _problem(policy: StagePolicy, trial: _Trial, figures: dict[str, float]) -> str:
    """Return what sends a challenger back; empty if nothing does."""
    limits = policy.stages.limits
    if trial.requests >= _LEAST_REQUESTS and trial.unscored > limits.errors * trial.requests:
        found = f"found none for {trial.unscored:,} of {trial.requests:,}"
        return f"errors: expected it to have a score for all but {limits.errors:.2%} of the requests, {found}"
    harm = below([-block.difference for block in trial.blocks])
    figures["harm_log_e"] = harm.log_e
    if harm.shows(policy.level):
        return f"loss: expected no more than the champion's, found {_losses(figures)} (e = {harm.e:.3g} of {1 / policy.level:.0f})"
    if policy.kind != "regression" and (words := _off(trial, limits.calibration, figures)):
        return words
    if policy.fairness is not None:
        parts = {name: blocks for name, blocks in trial.slices.items() if name}
        counts = {name: [(one.labels, one.positives, one.yes, one.hits) for one in blocks] for name, blocks in parts.items()}
        if words := unequal_answers(counts, policy.fairness, figures):
            return words
    return _worse_slices(policy, trial, figures)


def _off(trial: _Trial, limit: float, figures: dict[str, float]) -> str:
    """Return the words for a mean score that is surely farther from the truth than the champion's by more than the limit."""
    excess = np.array([block.excess for block in trial.blocks])
    if len(excess) < _LEAST_BLOCKS:
        return ""
    mean, error = float(excess.mean()), float(excess.std(ddof=1) / np.sqrt(len(excess)))
    figures |= {"calibration_excess": mean, "calibration_excess_error": error}
    if not mean - _CERTAIN * error > limit:
        return ""
    return (
        f"calibration: expected a mean score no farther from the truth than the champion's by more than {limit:g}, found {mean:.3f}"
        f" (two standard errors {2 * error:.3f}, {len(excess)} blocks)"
    )


def _worse_slices(policy: StagePolicy, trial: _Trial, figures: dict[str, float]) -> str:
    names, evidence = [], []
    for name, blocks in trial.slices.items():
        labels, positives = sum(block.labels for block in blocks), sum(block.positives for block in blocks)
        rare = policy.kind == "binary" and min(positives, labels - positives) < LEAST_OF_EACH_CLASS
        if not name or labels < LEAST_LABELS or rare:
            continue
        loss = float(np.average([block.champion_loss for block in blocks], weights=[block.labels for block in blocks]))
        allowed = _allowed(policy.slice_margin, policy.kind, {"champion_loss": loss})
        names.append(name)
        evidence.append(below([-block.difference for block in blocks], -allowed).log_e)
    figures["slices_judged"] = float(len(names))
    worse = [name for name, found in zip(names, discoveries(evidence, policy.level), strict=True) if found]
    if not worse:
        return ""
    return (
        f"slices: expected none of {len(names)} to be worse by more than {policy.slice_margin:g}, found {', '.join(worse)} (e-BH at {policy.level:g})"
    )


def _losses(figures: Mapping[str, float]) -> str:
    if "champion_loss" not in figures:
        return "no labelled request"
    shown = f"loss {figures['challenger_loss']:.4f} against {figures['champion_loss']:.4f}"
    return f"{shown} on {figures['trial_labels']:,.0f} labels of {figures['trial_blocks']:.0f} blocks"


def _could_have_seen(policy: StagePolicy, figures: Mapping[str, float]) -> str:
    seen = figures.get("detectable_difference", float("nan"))
    if np.isfinite(seen):
        return f"; a difference of {seen:+.4f} or lower would have been seen in 80 % of cases"
    return f"; no difference would have been seen on so few blocks (e of {1 / policy.level:.0f} is needed)"


def _days(duration_ms: int) -> str:
    return f"{duration_ms / 86_400_000:.3g} days"
