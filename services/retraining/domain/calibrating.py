"""Which correction of a model's probabilities helps, chosen on labels that it has not learned from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, logsumexp

from tidemill.services.retraining.domain.examples import DAY_MS
from tidemill.services.retraining.domain.shrinkage import FLOOR, LogOddsSample, shrunk_level, shrunk_line
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.models.calibration import Calibration
from tidemill.shared.statistics.paired_test import paired_block_test
from tidemill.shared.statistics.propensity import Weights, of_rows, weighted_mean

Scores = NDArray[np.float64]
_Method = Callable[[Scores, Scores, NDArray[np.int64], Weights], Calibration | None]
_LEVEL = 0.025
_FEWEST_DAYS, _BLOCKS = 5, 10
_LEAST_ROWS, _LEAST_FOR_AN_OFFSET, _LEAST_OF_A_CLASS, _LEAST_FOR_A_LINE, _DAYS_FOR_A_LINE = 200, 10, 30, 100, 14
_LEAST_PER_KNOT, _MOST_KNOTS = 50, 20


@dataclass(frozen=True, slots=True)
class CalibrationChoice:
    """What was chosen.

    Attributes
    ----------
    method
        ``platt``, ``isotonic``, ``offset``, ``temperature`` or ``none``.
    gain
        Log loss saved on rows that the correction was not fitted on, in nats a row; 0 for none.
    """

    method: str
    calibration: Calibration | None
    gain: float


def choose_calibration(
    kind: Kind, labels: Scores, scores: Scores, request_ms: NDArray[np.int64], is_weighted: bool = False, weights: Weights = None
) -> CalibrationChoice:
    """Choose a correction by log loss, or none where no one helps beyond noise.

    Each method is fitted on all blocks of time but one and judged on that one. One counts as helpful when its mean gain over blocks is above zero at
    the level 0.025; of the helpful the one with the larger gain is fitted on all rows. Binary: Platt scaling, or isotonic regression where there are
    100 rows of each class on 14 days. Both are drawn towards the scores as they are, the less the more the days agree (`shrinkage`): a week's
    level is not the next week's. Several classes share one temperature: it is one parameter for any number of classes, keeps the order of a row's
    probabilities and thereby every answer, and leaves them summing to 1, which corrections of one class against the rest do not.

    A binary model that was learned with equal weights of the classes is moved in any case, where there are ten rows of each class: trees that see a
    positive hundreds of times are too sure of the others, by several times the rate, and an offset of the log odds takes one parameter.

    Parameters
    ----------
    labels, request_ms, weights : shape (n,)
    scores : shape (n,) or (n, K)
    is_weighted
        Whether the classes had equal weights.

    References
    ----------
    Platt: Probabilistic outputs for support vector machines. 1999. Zadrozny and Elkan: Transforming classifier scores into accurate multiclass
    probability estimates. KDD 2002. Guo et al.: On calibration of modern neural networks. ICML 2017.
    """
    none = CalibrationChoice("none", None, 0.0)
    if kind.name == "regression" or len(labels) < _LEAST_ROWS or not np.isfinite(scores).all():
        return none
    blocks, methods = _blocks(request_ms), _methods(kind, labels, request_ms, is_weighted)
    days = _days(request_ms)
    plain = kind.losses(labels, scores)
    best, helped = none, 0.0
    if (
        is_weighted
        and kind.name == "binary"
        and _rare(labels) >= _LEAST_FOR_AN_OFFSET
        and (moved := offset(labels, scores, days, weights)) is not None
    ):
        helped = weighted_mean(plain - _apart(kind, labels, scores, blocks, days, offset, weights), weights)
        best = CalibrationChoice("offset", moved, helped)
    for name, method in methods.items():
        losses = _apart(kind, labels, scores, blocks, days, method, weights)
        test, gain = paired_block_test(losses - plain, blocks, weights), weighted_mean(plain - losses, weights)
        if test.p_value_less < _LEVEL and gain > helped and (calibration := method(labels, scores, days, weights)) is not None:
            best, helped = CalibrationChoice(name, calibration, gain), gain
    return best


def _apart(
    kind: Kind, labels: Scores, scores: Scores, blocks: NDArray[np.int64], days: NDArray[np.int64], method: _Method, weights: Weights
) -> Scores:
    """Return the loss of each row under a correction that was fitted on the other blocks, shape (n,)."""
    losses = kind.losses(labels, scores)
    for block in np.unique(blocks):
        apart = blocks == block
        fitted = method(labels[~apart], scores[~apart], days[~apart], of_rows(weights, ~apart))
        if fitted is not None:
            losses[apart] = kind.losses(labels[apart], fitted.apply(scores[apart]))
    return losses


def composed(first: Calibration | None, then: Calibration | None) -> Calibration | None:
    """Return one correction that does what two do one after the other; `first` has no knots."""
    if first is None or then is None:
        return then if first is None else first
    offsets = tuple(then.slope * one + other for one, other in zip(first.offsets, then.offsets, strict=True))
    return then.model_copy(update={"slope": then.slope * first.slope, "offsets": offsets})


def _methods(kind: Kind, labels: Scores, request_ms: NDArray[np.int64], is_weighted: bool) -> Mapping[str, _Method]:
    if kind.classes:
        return {"temperature": lambda labels, scores, days, weights: temperature(labels, scores, weights)}
    rare = _rare(labels)
    if rare < _LEAST_OF_A_CLASS:
        return {}
    has_many = rare >= _LEAST_FOR_A_LINE and len(np.unique(request_ms // DAY_MS)) >= _DAYS_FOR_A_LINE
    if is_weighted:  # Its level is known to be wrong.
        plain: dict[str, _Method] = {"platt": lambda labels, scores, days, weights: platt(labels, scores, weights)}
        return plain | ({"isotonic": lambda labels, scores, days, weights: isotonic(labels, scores, weights)} if has_many else {})
    return {"platt": _shrunk_platt, "isotonic": _shrunk_isotonic} if has_many else {"platt": _shrunk_platt}


def _shrunk_platt(labels: Scores, scores: Scores, days: NDArray[np.int64], weights: Weights) -> Calibration | None:
    line = platt(labels, scores, weights)
    return None if line is None else shrunk_line(LogOddsSample.of(labels, scores, days, weights), line.slope, line.offsets[0])


def _shrunk_isotonic(labels: Scores, scores: Scores, days: NDArray[np.int64], weights: Weights) -> Calibration | None:
    line = isotonic(labels, scores, weights)
    return None if line is None else shrunk_level(LogOddsSample.of(labels, scores, days, weights), line)


def _rare(labels: Scores) -> int:
    return min(int(labels.sum()), len(labels) - int(labels.sum()))


def _blocks(request_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Days where there are some and not too many, else ten stretches of equally many rows."""
    days = request_ms // DAY_MS
    return days if _FEWEST_DAYS <= len(np.unique(days)) <= _BLOCKS else _stretches(request_ms)


def _days(request_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Days, or where there are too few of them every row by itself: what lasts for hours only has no days that could differ."""
    days = request_ms // DAY_MS
    return days if len(np.unique(days)) >= _FEWEST_DAYS else np.arange(len(request_ms))


def _stretches(request_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    blocks = np.empty(len(request_ms), np.int64)
    blocks[np.argsort(request_ms, kind="stable")] = np.arange(len(request_ms)) * _BLOCKS // len(request_ms)
    return blocks


def offset(labels: Scores, scores: Scores, days: NDArray[np.int64], weights: Weights = None) -> Calibration | None:
    """Move the log odds by as much as makes the mean score the rate; None where one class is absent."""
    if not _rare(labels):
        return None
    sample = LogOddsSample.of(labels, scores, days, weights)
    return Calibration(link="logit", offsets=(sample.level(sample.odds),))


def platt(labels: Scores, scores: Scores, weights: Weights = None) -> Calibration | None:
    """Fit slope and offset on the scale of the log odds; None where the scores rank the wrong way round.

    Newton's method; the likelihood is concave.
    """
    odds = logit(np.clip(scores, FLOOR, 1 - FLOOR))
    design = np.column_stack([odds, np.ones(len(odds))])
    coefficients, sizes = np.array([1.0, 0.0]), np.ones(len(odds)) if weights is None else weights
    for _ in range(50):
        rates = expit(design @ coefficients)
        curvature = design.T @ (design * (sizes * rates * (1 - rates))[:, None]) + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, design.T @ (sizes * (labels - rates)))
        # A step that is too long where the curve is flat would leave for good.
        coefficients = coefficients + step * min(1.0, 2.0 / max(1e-12, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-10:
            break
    slope, offset = coefficients.tolist()
    return Calibration(link="logit", slope=slope, offsets=(offset,)) if slope > 0.01 and np.isfinite(coefficients).all() else None


def isotonic(labels: Scores, scores: Scores, weights: Weights = None) -> Calibration | None:
    """Fit a line that rises through the mean score and the rate of each stretch that isotonic regression finds.

    Between the means it is straight, so that it keeps the order of the scores and a rounding of a score moves its rate by as little. Stretches of few
    rows are joined. At the ends it goes to what one row more of either class would leave possible.

    References
    ----------
    Oron and Flournoy: Centered isotonic regression. Statistics in Biopharmaceutical Research 9 (2017).
    """
    order = np.argsort(scores, kind="stable")
    ordered, truth, own = scores[order], labels[order], np.ones(len(labels)) if weights is None else weights[order]
    # Loaded when needed: scikit-learn takes a second.
    from sklearn.isotonic import IsotonicRegression

    levels = IsotonicRegression().fit(ordered, truth, own).predict(ordered)
    stretch = np.append(0, np.cumsum(np.diff(levels) > 0))
    least, sizes = max(_LEAST_PER_KNOT, len(labels) // _MOST_KNOTS), np.bincount(stretch)
    merged, count, held = np.zeros(len(sizes), np.int64), 0, 0
    for i, size in enumerate(sizes.tolist()):
        merged[i], held = count, held + size
        if held >= least:
            count, held = count + 1, 0
    place = np.minimum(merged[stretch], max(0, count - 1))
    totals = np.bincount(place, own)
    knots, rates = np.bincount(place, own * ordered) / totals, np.bincount(place, own * truth) / totals
    least_rate = 1.0 / (len(labels) + 2)
    line = {0.0: min(least_rate, rates[0]), **dict(zip(knots.tolist(), rates.tolist(), strict=True)), 1.0: max(1 - least_rate, rates[-1])}
    at = np.array(sorted(line))
    rising = np.clip(np.maximum.accumulate([line[x] for x in at.tolist()]), least_rate, 1 - least_rate)
    return Calibration(link="logit", knots=tuple(at.tolist()), levels=tuple(rising.tolist())) if len(knots) > 1 else None


def temperature(labels: Scores, scores: Scores, weights: Weights = None) -> Calibration | None:
    """Fit the one power that all probabilities of a row are taken to."""
    logs = np.log(np.maximum(scores, FLOOR))
    own = np.arange(len(labels)), labels.astype(np.int64)

    def loss(power: float) -> float:
        scaled = np.exp(power) * logs
        return weighted_mean(logsumexp(scaled, axis=1) - scaled[own], weights)

    from scipy.optimize import minimize_scalar

    slope = float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded", options={"xatol": 1e-8}).x))
    return Calibration(link="softmax", slope=slope, offsets=(0.0,) * scores.shape[1])
