"""What sends a challenger back: no scores, a larger loss, a worse calibration, unequal answers, a slice that is harmed."""

import numpy as np

from tidemill.services.control.domain.group_answers import LEAST_LABELS, LEAST_OF_EACH_CLASS, unequal_answers
from tidemill.services.control.domain.trial_state import StagePolicy, TrialState, losses_of, margin_of
from tidemill.shared.statistics.eprocess import below, discoveries

_LEAST_REQUESTS = 100
_OF_LOSS, _OF_CALIBRATION, _OF_SLICES = 0.5, 0.25, 0.25
"""Of the level, for each check: one challenger that is not worse goes back with that probability at most, however often it is looked at."""
_OF_FAIRNESS = 0.25
"""Beside them, where limits are declared: a challenger whose groups differ by no more goes back for it with that part of the level at most."""


def setback(policy: StagePolicy, trial: TrialState, figures: dict[str, float]) -> str:
    """Return what sends a challenger back; empty if nothing does."""
    if words := without_scores(policy, trial):
        return words
    harm = below([-block.difference for block in trial.blocks])
    figures["harm_log_e"] = harm.log_e
    level = _OF_LOSS * policy.level
    if harm.shows(level):
        return f"loss: expected no more than the champion's, found {losses_of(figures)} (e = {harm.e:.3g} of {1 / level:.0f})"
    return harm_in_parts(policy, trial, figures)


def without_scores(policy: StagePolicy, trial: TrialState) -> str:
    """Return the words for a challenger without a score for too many requests; empty for any other.

    Where an application declares `fallback.latency_limit`, requests that wait longer are scored by neither. A challenger is scored in the same step
    as the champion, so one that is slow makes both wait. What else may have made them wait is not told apart: the challenger goes back, because it
    is the one that can be done without.
    """
    limits = policy.stages.limits
    if trial.requests < _LEAST_REQUESTS or not trial.unscored > limits.errors * trial.requests:
        return ""
    missing = f"found none for {trial.unscored:,} of {trial.requests:,}"
    if 2 * trial.unscored_by_both > trial.unscored:
        late = f"{trial.unscored_by_both:,} of them without one of the champion's either, as requests are that wait too long"
        return f"latency: expected a score for all but {limits.errors:.2%} of the requests, {missing}, {late}"
    return f"errors: expected it to have a score for all but {limits.errors:.2%} of the requests, {missing}"


def harm_in_parts(policy: StagePolicy, trial: TrialState, figures: dict[str, float]) -> str:
    """Return what is wrong with a challenger whose loss on the whole is not: calibration, fairness, slices; empty if nothing is."""
    if policy.kind != "regression" and (words := _off(policy, trial, figures)):
        return words
    return unequal(policy, trial, figures) or _worse_slices(policy, trial, figures)


def unequal(policy: StagePolicy, trial: TrialState, figures: dict[str, float]) -> str:
    """Return the words for a challenger that answers groups too differently; empty for any other, and without limits."""
    if policy.fairness is None:
        return ""
    parts = {name: blocks for name, blocks in trial.slices.items() if name}
    # Blocks of a state that an earlier version wrote do not say when they began, and cannot be held against those of another group.
    counts = {
        name: [(one.begins_ms, one.labels, one.positives, one.yes, one.hits) for one in blocks if one.begins_ms >= 0]
        for name, blocks in parts.items()
    }
    return unequal_answers(counts, policy.fairness, _OF_FAIRNESS * policy.level, figures)


def _off(policy: StagePolicy, trial: TrialState, figures: dict[str, float]) -> str:
    """Return the words for a mean score that is shown to be farther from the truth than the champion's by more than the limit.

    By a t e-process on blocks, as of losses: two standard errors at each of 28 looks would send back one of four that stand at the limit.
    """
    limit, level = policy.stages.limits.calibration, _OF_CALIBRATION * policy.level
    excess = [block.excess for block in trial.blocks]
    if excess:
        figures["calibration_excess"] = float(np.mean(excess))
    if not figures.get("calibration_excess", 0.0) > limit:
        return ""
    evidence = below(-np.array(excess), -limit)
    figures["calibration_log_e"] = evidence.log_e
    if not evidence.shows(level):
        return ""
    return (
        f"calibration: expected a mean score no farther from the truth than the champion's by more than {limit:g}, found {-evidence.mean:.3f}"
        f" on {len(trial.blocks)} blocks (e = {evidence.e:.3g} of {1 / level:.0f})"
    )


def _worse_slices(policy: StagePolicy, trial: TrialState, figures: dict[str, float]) -> str:
    names, evidence = [], []
    for name, blocks in trial.slices.items():
        labels, positives = sum(block.labels for block in blocks), sum(block.positives for block in blocks)
        rare = policy.kind == "binary" and min(positives, labels - positives) < LEAST_OF_EACH_CLASS
        if not name or labels < LEAST_LABELS or rare:
            continue
        loss = float(np.average([block.champion_loss for block in blocks], weights=[block.labels for block in blocks]))
        allowed = margin_of(policy.slice_margin, policy.kind, {"champion_loss": loss})
        names.append(name)
        evidence.append(below([-block.difference for block in blocks], -allowed).log_e)
    figures["slices_judged"] = float(len(names))
    level = _OF_SLICES * policy.level
    worse = [name for name, is_worse in zip(names, discoveries(evidence, level), strict=True) if is_worse]
    if not worse:
        return ""
    return f"slices: expected none of {len(names)} to be worse by more than {policy.slice_margin:g}, found {', '.join(worse)} (e-BH at {level:g})"
