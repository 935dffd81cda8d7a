"""What sends a challenger back: no scores, a larger loss, a worse calibration, unequal answers, a slice that is harmed."""

import numpy as np

from tidemill.services.control.domain.group_answers import LEAST_LABELS, LEAST_OF_EACH_CLASS, unequal_answers
from tidemill.services.control.domain.trial_state import StagePolicy, TrialState, losses_of, margin_of
from tidemill.shared.statistics.eprocess import below, discoveries

_LEAST_REQUESTS = 100
_LEAST_BLOCKS = 3
_CERTAIN = 2.0


def setback(policy: StagePolicy, trial: TrialState, figures: dict[str, float]) -> str:
    """Return what sends a challenger back; empty if nothing does."""
    if words := without_scores(policy, trial):
        return words
    harm = below([-block.difference for block in trial.blocks])
    figures["harm_log_e"] = harm.log_e
    if harm.shows(policy.level):
        return f"loss: expected no more than the champion's, found {losses_of(figures)} (e = {harm.e:.3g} of {1 / policy.level:.0f})"
    return harm_in_parts(policy, trial, figures)


def without_scores(policy: StagePolicy, trial: TrialState) -> str:
    """Return the words for a challenger without a score for too many requests; empty for any other."""
    limits = policy.stages.limits
    if trial.requests >= _LEAST_REQUESTS and trial.unscored > limits.errors * trial.requests:
        found = f"found none for {trial.unscored:,} of {trial.requests:,}"
        return f"errors: expected it to have a score for all but {limits.errors:.2%} of the requests, {found}"
    return ""


def harm_in_parts(policy: StagePolicy, trial: TrialState, figures: dict[str, float]) -> str:
    """Return what is wrong with a challenger whose loss on the whole is not: calibration, fairness, slices; empty if nothing is."""
    if policy.kind != "regression" and (words := _off(trial, policy.stages.limits.calibration, figures)):
        return words
    return unequal(policy, trial, figures) or _worse_slices(policy, trial, figures)


def unequal(policy: StagePolicy, trial: TrialState, figures: dict[str, float]) -> str:
    """Return the words for a challenger that answers groups too differently; empty for any other, and without limits."""
    if policy.fairness is None:
        return ""
    parts = {name: blocks for name, blocks in trial.slices.items() if name}
    counts = {name: [(one.labels, one.positives, one.yes, one.hits) for one in blocks] for name, blocks in parts.items()}
    return unequal_answers(counts, policy.fairness, figures)


def _off(trial: TrialState, limit: float, figures: dict[str, float]) -> str:
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
    worse = [name for name, found in zip(names, discoveries(evidence, policy.level), strict=True) if found]
    if not worse:
        return ""
    return (
        f"slices: expected none of {len(names)} to be worse by more than {policy.slice_margin:g}, found {', '.join(worse)} (e-BH at {policy.level:g})"
    )
