"""Whether a challenger answers groups of people too differently, by what its trial has counted so far."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from tidemill.shared.application.gate_policy import Fairness
from tidemill.shared.statistics.eprocess import LEAST_BLOCKS, below

LEAST_LABELS, LEAST_OF_EACH_CLASS = 200, 30
_ERRORS = 2.0
Counts = NDArray[np.float64]
"""Shape (blocks, 5), in order of time: begin of the block, labels, positives, answers with yes, and those of them whose label is yes."""
Rates = NDArray[np.float64]


def unequal_answers(counts: Mapping[str, Sequence[Sequence[int]]], limits: Fairness, level: float, figures: dict[str, float]) -> str:
    """Hold differences between the groups of each sensitive column against the limits of the gate; a problem is what is shown to exceed one.

    A trial is looked at after every block, so it is shown by t e-processes, which may be: one for each two groups, on the differences of their rates
    within blocks, which share what the day does to both. The e-values of all pairs of a measure are averaged, and so are those of true and false
    positives: the mean of e-processes is one under the hypothesis that no pair exceeds the limit, however they depend on each other. Each of the
    measures and columns has an equal part of the level. Groups with fewer than 200 labels, 30 of a class or seven blocks are not judged.

    Parameters
    ----------
    counts
        By group (``column=value``) and block: begin, labels, positives, answers with yes, and those of them whose label is yes.
    level
        Probability with which a challenger whose groups differ by no more than the limits is ever said to be unequal.
    figures
        Receives the differences, the evidence that they exceed their limits, and how large the largest one of two groups is but for two standard
        errors (``..._low``).

    References
    ----------
    fairlearn.metrics: demographic_parity_difference, equalized_odds_difference (worst case).
    Vovk and Wang: E-values: calibration, combination and applications. Annals of Statistics 49 (2021), on averages.
    """
    problems = []
    for column in limits.columns:
        groups = [np.array(blocks, np.float64) for name, blocks in sorted(counts.items()) if name.startswith(f"{column}=") and len(blocks)]
        groups = [group for group in groups if _is_enough(group)]
        figures[f"fairness_groups__{column}"] = float(len(groups))
        if len(groups) < 2:
            continue
        totals = np.array([_rates(group.sum(axis=0, keepdims=True))[:, 0] for group in groups])
        spans = np.nanmax(totals, axis=0) - np.nanmin(totals, axis=0)
        pairs = [_within_blocks(one, other) for one, other in combinations(groups, 2)]
        each = level / (2 * len(limits.columns))
        measured = (
            ("demographic_parity", limits.demographic_parity, float(spans[0]), [pair[0] for pair in pairs]),
            ("equalized_odds", limits.equalized_odds, float(spans[1:].max()), [gaps for pair in pairs for gaps in pair[1:]]),
        )
        for measure, limit, value, differences in measured:
            differences = [gaps[~np.isnan(gaps)] for gaps in differences]
            log_e = _mean_log_e([below(-sign * gaps, -limit).log_e for gaps in differences for sign in (1.0, -1.0)])
            low = max(
                (abs(float(gaps.mean())) - _ERRORS * float(gaps.std(ddof=1)) / np.sqrt(len(gaps)) for gaps in differences if len(gaps) > 1),
                default=0.0,
            )
            figures |= {f"{measure}__{column}": value, f"{measure}_low__{column}": max(0.0, low), f"{measure}_log_e__{column}": log_e}
            if log_e >= -np.log(each):
                evidence = f"found {value:.3f} (e = {np.exp(min(log_e, 600.0)):.3g} of {1 / each:.0f})"
                problems.append(f"expected groups of {column} to differ by at most {limit:g} in {measure}, {evidence}")
    return f"fairness: {'; '.join(problems)}" if problems else ""


def looks_equal(limits: Fairness | None, figures: Mapping[str, float]) -> bool:
    """Whether no two groups differ so far by more than a limit, but for two standard errors: no evidence, but a reason to wait with a promotion."""
    measures = () if limits is None else (("demographic_parity", limits.demographic_parity), ("equalized_odds", limits.equalized_odds))
    return all(figures.get(f"{name}_low__{column}", 0.0) <= limit for name, limit in measures for column in (limits.columns if limits else ()))


def _mean_log_e(log_e: Sequence[float]) -> float:
    """Return the logarithm of the mean of e-values."""
    return float(logsumexp(log_e) - np.log(len(log_e))) if np.isfinite(log_e).any() else -float("inf")


def _is_enough(group: Counts) -> bool:
    if len(group) < LEAST_BLOCKS:
        return False
    labels, positives = group[:, 1].sum(), group[:, 2].sum()
    return bool(labels >= LEAST_LABELS and min(positives, labels - positives) >= LEAST_OF_EACH_CLASS)


def _within_blocks(one: Counts, other: Counts) -> Rates:
    """Return the differences of two groups' rates in the blocks that both have, shape (3, blocks)."""
    _, first, second = np.intersect1d(one[:, 0], other[:, 0], assume_unique=True, return_indices=True)
    return _rates(one[first]) - _rates(other[second])


def _rates(group: Counts) -> Rates:
    """Return the shares answered with yes of all, of positives and of negatives by block, shape (3, blocks); NaN where there are none."""
    _, labels, positives, yes, hits = group.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.array([yes / labels, hits / positives, (yes - hits) / (labels - positives)])
