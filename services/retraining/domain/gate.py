"""The gate: a candidate replaces the champion only when it is better on labels that neither learned from."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.services.retraining.domain.examples import DAY_MS
from tidemill.shared.statistics.bootstrap import paired_block_test
from tidemill.shared.statistics.calibration import calibration_difference_interval, calibration_interval
from tidemill.shared.statistics.metrics import log_losses, roc_auc

_AUC_MARGIN = 0.005
_CALIBRATION_MARGIN = 0.02
_LEAST_DAYS = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the challenger won, why (not), and the figures."""

    passed: bool
    reason: str
    figures: Mapping[str, float]


def judge(
    labels: NDArray[np.float64],
    challenger: NDArray[np.float64],
    champion: NDArray[np.float64],
    request_ms: NDArray[np.int64],
    alpha: float,
    min_rows: int,
    min_positives: int = 2,
) -> Verdict:
    """Compare two models' scores of the same requests: log loss by a paired one-sided t test over days, AUC, and calibration.

    A candidate whose probabilities mean less than the champion's (calibration error larger by more than 0.02, sure at 95 %) does not serve,
    whatever its log loss.

    Rows of one day share weather and congestion, so days, not rows, are the independent observations.

    Parameters
    ----------
    labels, challenger, champion, request_ms : shape (n,)
    alpha
        Level of the test.
    min_rows, min_positives
        Rows needed, and rows of each class.
    """
    if not np.isin(labels, (0.0, 1.0)).all():
        return Verdict(False, f"expected labels of 0 and 1, found {int((~np.isin(labels, (0.0, 1.0))).sum())} others", _rows(labels))
    for whose, scores in (("candidate", challenger), ("champion", champion)):
        if not np.isfinite(scores).all():
            return Verdict(False, f"expected finite scores, the {whose} has none for {int((~np.isfinite(scores)).sum())} rows", _rows(labels))
    positives = int(labels.sum())
    rare, fewest = ("positives", positives) if positives <= len(labels) - positives else ("negatives", len(labels) - positives)
    if len(labels) and fewest < min_positives:
        words = f"expected both classes among the {len(labels)} rows to judge on, {min_positives} rows of each, found {fewest} {rare}"
        return Verdict(False, words, _rows(labels) | {"gate_positives": float(positives)})
    days = request_ms // DAY_MS
    found = len(np.unique(days)) if len(labels) else 0
    if len(labels) < min_rows or found < _LEAST_DAYS:
        figures = {"gate_rows": float(len(labels)), "gate_days": float(found)}
        return Verdict(False, f"{len(labels)} matured rows over {found} days; {min_rows} rows and {_LEAST_DAYS} days are needed", figures)
    mine, theirs = log_losses(labels, challenger), log_losses(labels, champion)
    test = paired_block_test(mine - theirs, days)
    auc, champion_auc = roc_auc(labels, challenger), roc_auc(labels, champion)
    calibration, worse = calibration_interval(labels, challenger, days), calibration_difference_interval(labels, challenger, champion, days)
    figures = {
        "gate_rows": float(len(labels)),
        "gate_days": float(test.blocks),
        "log_loss": float(mine.mean()),
        "champion_log_loss": float(theirs.mean()),
        "log_loss_difference": test.mean,
        "p_value": test.p_value_less,
        "auc": auc,
        "champion_auc": champion_auc,
        "gate_positives": float(positives),
        "score_mean": float(challenger.mean()),
        "positive_rate": float(labels.mean()),
        "calibration_error": calibration.estimate,
        "calibration_error_low": calibration.low,
        "calibration_error_high": calibration.high,
        "calibration_difference": worse.estimate,
        "calibration_difference_low": worse.low,
    }
    if not test.p_value_less < alpha:
        return Verdict(False, f"log loss {mine.mean():.4f} against {theirs.mean():.4f}: p = {test.p_value_less:.3f}, needed < {alpha}", figures)
    # Written so that a figure that is NaN passes nothing.
    if not auc >= champion_auc - _AUC_MARGIN:
        return Verdict(False, f"log loss is better but AUC is not: {auc:.4f} against {champion_auc:.4f}", figures)
    if not worse.low <= _CALIBRATION_MARGIN:
        words = f"log loss is better but calibration is not: error {calibration.estimate:.3f}, larger by {worse.estimate:.3f}"
        return Verdict(False, f"{words} (at least {worse.low:.3f}; {_CALIBRATION_MARGIN} is allowed)", figures)
    return Verdict(True, f"log loss {mine.mean():.4f} against {theirs.mean():.4f}: p = {test.p_value_less:.2g}", figures)


def keeps(
    verdict: Verdict,
    labels: NDArray[np.float64],
    refitted: NDArray[np.float64],
    judged: NDArray[np.float64],
    request_ms: NDArray[np.int64],
    alpha: float,
) -> Verdict:
    """Keep a verdict for the refit that serves, unless it does worse than the judged fit on the very rows that it has learned and the other has not.

    A refit that knows the rows of the gate cannot be judged by them, but one that fits them worse has gone wrong: by a label outage, or by a week
    of labels that are no truth.
    """
    known = np.isin(labels, (0.0, 1.0))
    mine, theirs = log_losses(labels[known], refitted[known]), log_losses(labels[known], judged[known])
    figures = {**verdict.figures, "refit_log_loss": float(mine.mean())}
    test = paired_block_test(theirs - mine, request_ms[known] // DAY_MS)
    if np.isfinite(refitted).all() and not test.p_value_less < alpha:
        return Verdict(verdict.passed, verdict.reason, figures)
    words = f"the refit on everything known does worse than what was judged: log loss {mine.mean():.4f} against {theirs.mean():.4f}"
    return Verdict(False, f"{words}, p = {test.p_value_less:.2g}", figures)


def _rows(labels: NDArray[np.float64]) -> dict[str, float]:
    return {"gate_rows": float(len(labels))}
