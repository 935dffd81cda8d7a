"""Metrics of predictions; undefined ones are NaN, never a made-up number."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidemill.shared.statistics.propensity import Weights, of_rows, weighted_mean

_EPSILON = float(np.finfo(np.float64).eps)


def _floats(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)


def roc_auc(labels: ArrayLike, scores: ArrayLike, weights: Weights = None) -> float:
    """Probability that a positive outranks a negative, ties counted half (Mann-Whitney U).

    Parameters
    ----------
    labels : array, shape (n,)
        0 or 1.
    scores, weights : array, shape (n,)

    Returns
    -------
    float
        NaN when one class is absent.
    """
    truth, values = _floats(labels) > 0.5, _floats(scores)
    positives = int(truth.sum())
    negatives = truth.size - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    if weights is not None:
        return _weighted_auc(truth, values, weights)
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(sizes) - (sizes - 1) / 2.0
    return float((mean_rank[group][truth].sum() - positives * (positives + 1) / 2.0) / (positives * negatives))


def _weighted_auc(truth: NDArray[np.bool_], values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    _, group = np.unique(values, return_inverse=True)
    positives, negatives = np.bincount(group, weights * truth), np.bincount(group, weights * ~truth)
    won = float((positives * (np.cumsum(negatives) - negatives / 2.0)).sum())
    return won / float(positives.sum() * negatives.sum())


def log_losses(labels: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """Negative log-likelihood of each row, scores clipped to [eps, 1 - eps] (as scikit-learn does)."""
    probability = np.clip(_floats(scores), _EPSILON, 1.0 - _EPSILON)
    return -np.where(_floats(labels) > 0.5, np.log(probability), np.log1p(-probability))


def log_loss(labels: ArrayLike, scores: ArrayLike, weights: Weights = None) -> float:
    """Mean negative log-likelihood; NaN without rows."""
    return weighted_mean(log_losses(labels, scores), weights)


def brier(labels: ArrayLike, scores: ArrayLike, weights: Weights = None) -> float:
    """Mean squared error of the probability; NaN without rows."""
    return weighted_mean((_floats(scores) - _floats(labels)) ** 2, weights)


def accuracy(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Share of rows whose class is right; NaN without rows."""
    hits = _floats(labels) == _floats(predicted)
    return float(hits.mean()) if hits.size else float("nan")


def kappa(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Cohen's kappa of two classes: accuracy above chance agreement; NaN when chance agrees on everything."""
    truth, answer = _floats(labels) > 0.5, _floats(predicted) > 0.5
    if truth.size == 0:
        return float("nan")
    observed = float((truth == answer).mean())
    positive, answered = float(truth.mean()), float(answer.mean())
    chance = positive * answered + (1.0 - positive) * (1.0 - answered)
    return (observed - chance) / (1.0 - chance) if chance < 1.0 else float("nan")


def average_precision(labels: ArrayLike, scores: ArrayLike, weights: Weights = None) -> float:
    """Mean precision over the positives, each at the threshold that its own score is (ties together); NaN without positives."""
    truth, values = _floats(labels) > 0.5, _floats(scores)
    positives = int(truth.sum())
    if not positives:
        return float("nan")
    order = np.argsort(-values, kind="stable")
    last = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
    if weights is not None:
        own = weights[order]
        won, answered = np.cumsum(own * truth[order])[last], np.cumsum(own)[last]
        return float((np.diff(won, prepend=0.0) * won / answered).sum() / won[-1])
    hits = np.cumsum(truth[order])[last]
    return float((np.diff(hits, prepend=0) * hits / (last + 1)).sum() / positives)


def class_log_losses(labels: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """Negative log-likelihood of each row's class, shape (n,); scores of shape (n, K) are clipped to [eps, 1 - eps]."""
    table = _floats(scores)
    own = np.take_along_axis(table, _floats(labels).astype(np.int64)[:, None], axis=1)[:, 0]
    losses: NDArray[np.float64] = -np.log(np.clip(own, _EPSILON, 1.0 - _EPSILON))
    return losses


def class_brier(labels: ArrayLike, scores: ArrayLike, weights: Weights = None) -> float:
    """Mean over the rows of the sum over the classes of squared errors, 0 to 2; NaN without rows."""
    table = _floats(scores)
    errors = table - (_floats(labels)[:, None] == np.arange(table.shape[1]))
    return weighted_mean((errors * errors).sum(axis=1), weights)


def confusion(labels: ArrayLike, predicted: ArrayLike, classes: int, weights: Weights = None) -> NDArray[np.int64] | NDArray[np.float64]:
    """Count rows by true class (first axis) and by class that was answered, shape (classes, classes), or add their weights.

    Rows with what is no class are left out.
    """
    truth, answer = _floats(labels).astype(np.int64), _floats(predicted).astype(np.int64)
    known = (truth >= 0) & (truth < classes) & (answer >= 0) & (answer < classes)
    if not known.all():
        truth, answer, weights = truth[known], answer[known], of_rows(weights, known)
    return np.bincount(truth * classes + answer, weights, minlength=classes * classes).reshape(classes, classes)


def class_figures(table: NDArray[np.int64] | NDArray[np.float64], positive: int | None = None) -> dict[str, float]:
    """Accuracy, balanced accuracy, kappa, precision, recall and F1 from a confusion table.

    Parameters
    ----------
    table
        As of `confusion`.
    positive
        Whose precision, recall and F1 are meant; without it the mean over the classes that occur in truth or answers (macro).

    Returns
    -------
    dict
        A precision without answers, or a recall without truths, is NaN for one class and 0 within a mean, as in scikit-learn.
    """
    hits, truths, answers = np.diag(table).astype(np.float64), table.sum(axis=1), table.sum(axis=0)
    total = float(table.sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall, f1 = hits / answers, hits / truths, 2 * hits / (truths + answers)
        chance = float(truths.astype(np.float64) @ answers) / total**2 if total else float("nan")
        accuracy_ = float(hits.sum() / total) if total else float("nan")
        agreement = (accuracy_ - chance) / (1.0 - chance) if chance < 1.0 else float("nan")
    if positive is None:
        occur = (truths + answers) > 0
        three = [float(np.nan_to_num(one[occur]).mean()) if occur.any() else float("nan") for one in (precision, recall, f1)]
    else:
        three = [float(one[positive]) for one in (precision, recall, f1)]
    balanced = float(recall[truths > 0].mean()) if total else float("nan")
    return {
        "accuracy": accuracy_, "balanced_accuracy": balanced, "kappa": agreement, "precision": three[0], "recall": three[1], "f1": three[2],
    }  # fmt: skip


def number_figures(labels: ArrayLike, scores: ArrayLike, weights: Weights = None) -> dict[str, float]:
    """Mean absolute error, root mean squared error and R2 (NaN where the labels do not vary)."""
    truth, errors = _floats(labels), _floats(scores) - _floats(labels)
    if not truth.size:
        return {"mean_absolute_error": float("nan"), "root_mean_squared_error": float("nan"), "r2": float("nan")}
    if weights is None:
        spread, squares = float(((truth - truth.mean()) ** 2).sum()), float((errors * errors).sum())
    else:
        spread, squares = (float((weights * of_one**2).sum()) for of_one in (truth - weighted_mean(truth, weights), errors))
    r2 = 1.0 - squares / spread if spread > 0 else float("nan")
    absolute, squared = weighted_mean(np.abs(errors), weights), weighted_mean(errors * errors, weights)
    return {
        "mean_absolute_error": absolute, "root_mean_squared_error": float(np.sqrt(squared)), "r2": r2,
    }  # fmt: skip


def too_few(counts: NDArray[np.int64], names: Sequence[str], least: int) -> str:
    """Say which classes have fewer than `least` rows; empty when none has.

    >>> too_few(np.array([40, 3]), ("negatives", "positives"), 10)
    '3 positives of 43 rows, 10 are needed'
    """
    few = [f"{count} {name}" for count, name in zip(counts.tolist(), names, strict=True) if count < least]
    return f"{' and '.join(few)} of {counts.sum()} rows, {least} are needed" if few else ""


def defined(figures: Mapping[str, float]) -> dict[str, float]:
    """Leave out what is undefined."""
    return {name: value for name, value in figures.items() if np.isfinite(value)}
