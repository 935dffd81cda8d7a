"""The gate of first models: one serves only when it is better than the fallback on labels that it has not learned from."""

import numpy as np
from numpy.typing import NDArray

from tidemill.services.retraining.domain.calibration_check import calibration_of, compare_calibration
from tidemill.services.retraining.domain.examples import DAY_MS
from tidemill.services.retraining.domain.verdict import GateVerdict
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.statistics.metrics import roc_auc
from tidemill.shared.statistics.paired_test import paired_block_test
from tidemill.shared.statistics.propensity import Weights, weighted_mean

_AUC_MARGIN = 0.005
_LEAST_DAYS = 3


def judge(
    kind: Kind,
    labels: NDArray[np.float64],
    challenger: NDArray[np.float64],
    champion: NDArray[np.float64],
    request_ms: NDArray[np.int64],
    alpha: float,
    min_rows: int,
    min_positives: int = 2,
    block_ms: int = DAY_MS,
    weights: Weights = None,
) -> GateVerdict:
    """Compare two models' scores of the same requests: loss by a paired one-sided t test over blocks (days), AUC (binary), calibration (classes).

    A candidate whose probabilities mean less than the champion's (calibration error larger by more than 0.02, sure at 95 %) does not serve,
    whatever its loss.

    Rows of one day share weather and congestion, so days, not rows, are the independent observations.

    Parameters
    ----------
    labels, request_ms : shape (n,)
    challenger, champion : shape (n,) or (n, K)
    alpha
        Level of the test.
    min_rows, min_positives
        Rows needed, and rows of each class.
    block_ms
        Requests of so long share their error.
    weights : shape (n,)
        How many requests each row stands for; counts of rows are counts.
    """
    days = request_ms // block_ms
    if (unfit := _unfit(kind, labels, challenger, champion, days, min_rows, min_positives, block_ms)) is not None:
        return unfit
    mine, theirs = kind.losses(labels, challenger), kind.losses(labels, champion)
    test = paired_block_test(mine - theirs, days, weights)
    loss, champion_loss = weighted_mean(mine, weights), weighted_mean(theirs, weights)
    figures = {
        "gate_rows": float(len(labels)),
        "gate_days": float(test.blocks),
        "loss": loss,
        "champion_loss": champion_loss,
        "loss_difference": test.mean,
        "p_value": test.p_value_less,
    }
    shown = f"loss {loss:.4f} against {champion_loss:.4f}"
    if not test.p_value_less < alpha:
        return GateVerdict(False, f"{shown}: p = {test.p_value_less:.3f}, needed < {alpha}", figures)
    # Written so that a figure that is NaN passes nothing.
    if kind.name == "binary":
        auc, champion_auc = roc_auc(labels, challenger, weights), roc_auc(labels, champion, weights)
        figures |= {"auc": auc, "champion_auc": champion_auc}
        if not auc >= champion_auc - _AUC_MARGIN:
            return GateVerdict(False, f"the loss is better but AUC is not: {auc:.4f} against {champion_auc:.4f}", figures)
    if kind.name != "regression" and (problem := _worse_calibration(kind, labels, challenger, champion, days, figures, weights)):
        return GateVerdict(False, problem, figures)
    return GateVerdict(True, f"{shown}: p = {test.p_value_less:.2g}", figures)


def _unfit(
    kind: Kind,
    labels: NDArray[np.float64],
    challenger: NDArray[np.float64],
    champion: NDArray[np.float64],
    days: NDArray[np.int64],
    min_rows: int,
    min_positives: int,
    block_ms: int,
) -> GateVerdict | None:
    """Return the refusal of rows that nobody can be judged by; None where they will do."""
    labelled = kind.is_label(labels)
    if not labelled.all():
        return GateVerdict(False, f"expected labels of {kind.expected}, found {int((~labelled).sum())} others", _rows(labels))
    for whose, scores in (("candidate", challenger), ("champion", champion)):
        if not (answered := kind.is_score(scores)).all():
            return GateVerdict(False, f"expected finite scores, the {whose} has none for {int((~answered).sum())} rows", _rows(labels))
    if len(labels) and (lack := kind.lack(labels, min_positives)):
        return GateVerdict(False, f"expected enough of each class to judge by, found {lack}", _rows(labels))
    day_count = len(np.unique(days)) if len(labels) else 0
    if len(labels) < min_rows or day_count < _LEAST_DAYS:
        figures = {"gate_rows": float(len(labels)), "gate_days": float(day_count)}
        what = "days" if block_ms == DAY_MS else f"blocks of {block_ms / 1000:g} s"
        return GateVerdict(False, f"{len(labels)} matured rows over {day_count} {what}; {min_rows} rows and {_LEAST_DAYS} {what} are needed", figures)
    return None


def _worse_calibration(
    kind: Kind,
    labels: NDArray[np.float64],
    challenger: NDArray[np.float64],
    champion: NDArray[np.float64],
    days: NDArray[np.int64],
    figures: dict[str, float],
    weights: Weights,
) -> str:
    if kind.name != "binary":  # What serves without a model answers one class: its calibration is no measure.
        figures |= calibration_of(kind, labels, challenger, days, weights)[1]
        return ""
    check = compare_calibration(kind, labels, challenger, champion, days, weights)
    figures |= check.figures
    return check.problem


def _rows(labels: NDArray[np.float64]) -> dict[str, float]:
    return {"gate_rows": float(len(labels))}
