"""The gate for recipes: what refits of a recipe would have answered, test-then-train, against what was answered, on the same requests."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.services.retraining.domain.calibration_check import compare_calibration
from tidemill.services.retraining.domain.examples import DAY_MS
from tidemill.services.retraining.domain.slices import Groups, judge_slices
from tidemill.services.retraining.domain.verdict import GateVerdict
from tidemill.shared.application.gate_policy import Gate
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.statistics.bootstrap import auc_difference_interval
from tidemill.shared.statistics.eprocess import below, block_means
from tidemill.shared.statistics.propensity import Weights, weighted_mean

LEAST_BLOCKS = 7
_AUC_MARGIN = 0.005


@dataclass(frozen=True, slots=True)
class PairedScores:
    """Two strategies' scores of the same requests, each given before it knew the request's label.

    Attributes
    ----------
    labels, request_ms, blocks : shape (n,)
        Truth, when it was asked, and the number of the block (day) of each request.
    candidate, champion : shape (n,) or (n, K)
    groups
        Rows by slice.
    weights : shape (n,)
        How many requests each row stands for; None: itself.
    """

    labels: NDArray[np.float64]
    candidate: NDArray[np.float64]
    champion: NDArray[np.float64]
    blocks: NDArray[np.int64]
    groups: Groups
    weights: Weights = None


def judge_strategy(kind: Kind, rows: PairedScores, gate: Gate, level: float, min_each: int) -> GateVerdict:
    """Admit a recipe that is shown not to be worse by the margin, and neither in a slice nor in what its probabilities mean.

    In this order: enough rows, days and classes; finite scores; non-inferiority by a t e-process on the means of days in the order of requests; AUC
    (binary) and calibration (classes), refused when surely worse; slices. A figure that is NaN passes nothing.

    Parameters
    ----------
    level
        The e-value must reach 1 / level.
    min_each
        Rows needed of each class.
    """
    n, blocks = len(rows.labels), len(np.unique(rows.blocks))
    figures = {"gate_rows": float(n), "gate_days": float(blocks), "needed_log_e": float(-np.log(level))}
    if problem := _unfit(kind, rows, gate, blocks, min_each):
        return GateVerdict(False, problem, figures)
    mine, theirs = kind.losses(rows.labels, rows.candidate), kind.losses(rows.labels, rows.champion)
    loss, champion_loss = weighted_mean(mine, rows.weights), weighted_mean(theirs, rows.weights)
    margin, slice_margin = gate.margins(kind.name)
    allowed = margin if kind.name != "regression" else margin * weighted_mean(theirs, rows.weights)
    evidence = below(block_means(mine - theirs, rows.blocks, rows.weights), allowed)
    seen = evidence.detectable(allowed, level)
    figures |= {
        "loss": loss,
        "champion_loss": champion_loss,
        "loss_difference": weighted_mean(mine - theirs, rows.weights),
        "loss_difference_of_days": evidence.mean,
        "day_spread": evidence.spread,
        "day_correlation": evidence.correlation,
        "days_per_block": float(evidence.days_per_block),
        "margin": allowed,
        "log_e": evidence.log_e,
        "detectable_difference": seen,
    }
    shown = f"loss {loss:.4f} against {champion_loss:.4f}, by day {evidence.mean:+.4f}"
    if not evidence.shows(level):
        power = (
            f"{seen:+.4f} or lower would have passed in 80 % of cases"
            if np.isfinite(seen)
            else f"no difference would have passed on so few {_units(gate)}"
        )
        words = f"{shown}: expected evidence that it is worse by less than {allowed:.3g} (e of {1 / level:.0f} or more)"
        return GateVerdict(False, f"non-inferiority: {words}, found e = {evidence.e:.3g} on {blocks} {_units(gate)}; {power}", figures)
    if problem := _worse_ranking(kind, rows, figures) or _worse_meaning(kind, rows, figures):
        return GateVerdict(False, problem, figures)
    slices = judge_slices(kind, rows.labels, mine, theirs, rows.blocks, rows.groups, slice_margin, gate.alpha, rows.weights)
    figures |= {"slices_judged": float(slices.judged), "slices_not_judged_rows": float(slices.pooled_rows), "slice_worst_difference": slices.worst}
    if slices.harmed:
        words = f"expected no slice of {slices.judged} to be worse by more than {slice_margin:g}, found {', '.join(slices.harmed)}"
        return GateVerdict(False, f"slices: {words} (e-BH at {gate.alpha:g})", figures, {"slices": slices.text})
    return GateVerdict(True, f"{shown}, e = {evidence.e:.3g} of {1 / level:.0f}: worse by less than {allowed:.3g}", figures, {"slices": slices.text})


def _unfit(kind: Kind, rows: PairedScores, gate: Gate, blocks: int, min_each: int) -> str:
    labelled = kind.is_label(rows.labels)
    if not labelled.all():
        return f"labels: expected {kind.expected}, found {int((~labelled).sum())} others"
    if len(rows.labels) < gate.min_rows or blocks < LEAST_BLOCKS:
        matured = f"found {len(rows.labels)} matured requests that a model answered, over {blocks}"
        return f"rows: expected {gate.min_rows} requests over {LEAST_BLOCKS} {_units(gate)}, {matured}; it can be judged when there are more"
    if lack := kind.lack(rows.labels, min_each):
        return f"classes: expected enough of each class to judge by, found {lack}"
    for whose, scores in (("recipe", rows.candidate), ("champion", rows.champion)):
        finite = kind.is_score(scores)
        if not finite.all():
            return f"scores: expected finite scores, the {whose} has none for {int((~finite).sum())} of {len(finite)} rows"
    return ""


def _worse_ranking(kind: Kind, rows: PairedScores, figures: dict[str, float]) -> str:
    if kind.name != "binary":
        return ""
    gap = auc_difference_interval(rows.labels, rows.candidate, rows.champion, rows.blocks, weights=rows.weights)
    figures |= {"auc_difference": gap.estimate, "auc_difference_high": gap.high}
    # Written so that a figure that is NaN passes nothing.
    if gap.high >= -_AUC_MARGIN:
        return ""
    return f"AUC: expected no loss of more than {_AUC_MARGIN:g}, found {gap.estimate:+.4f} (at best {gap.high:+.4f} at 95 %)"


def _worse_meaning(kind: Kind, rows: PairedScores, figures: dict[str, float]) -> str:
    if kind.name == "regression":
        return ""
    check = compare_calibration(kind, rows.labels, rows.candidate, rows.champion, rows.blocks, rows.weights)
    figures |= check.figures
    return check.problem


def _units(gate: Gate) -> str:
    return "days" if gate.block == DAY_MS else f"blocks of {gate.block / 1000:g} s"
