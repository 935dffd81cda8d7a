"""Metrics of binary predictions; undefined ones are NaN, never a made-up number."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

_EPSILON = float(np.finfo(np.float64).eps)


def _floats(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Probability that a positive outranks a negative, ties counted half (Mann-Whitney U).

    Parameters
    ----------
    labels : array, shape (n,)
        0 or 1.
    scores : array, shape (n,)

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
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(sizes) - (sizes - 1) / 2.0
    return float((mean_rank[group][truth].sum() - positives * (positives + 1) / 2.0) / (positives * negatives))


def log_losses(labels: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """Negative log-likelihood of each row, scores clipped to [eps, 1 - eps] (as scikit-learn does)."""
    probability = np.clip(_floats(scores), _EPSILON, 1.0 - _EPSILON)
    return -np.where(_floats(labels) > 0.5, np.log(probability), np.log1p(-probability))


def log_loss(labels: ArrayLike, scores: ArrayLike) -> float:
    """Mean negative log-likelihood; NaN without rows."""
    losses = log_losses(labels, scores)
    return float(losses.mean()) if losses.size else float("nan")


def brier(labels: ArrayLike, scores: ArrayLike) -> float:
    """Mean squared error of the probability; NaN without rows."""
    errors = (_floats(scores) - _floats(labels)) ** 2
    return float(errors.mean()) if errors.size else float("nan")


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
