"""How well one column alone tells the label: by means of bins, learned on some rows and judged on others."""

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.metrics import r2_score, roc_auc_score

from tidemill.init.column import InputColumn
from tidemill.init.question import Question

BOUND = 0.98
_FOLDS = 5
_MOST_ROWS = 20_000
_DISTINCT_BINS = 200
_BINS = 64
_LEAST_ROWS = 100
_LEAST_OF_A_CLASS = 15
_SMOOTHING = 1.0


def single_column_score(column: InputColumn, question: Question) -> float | None:
    """Return the cross-validated AUC (the mean over classes, each against the rest) or R2 of a column alone.

    Values are put into bins: each text, each number of at most 200, else 64 quantiles; no value is a bin of its own. A bin's score is the mean label
    of its rows in the other folds, so a value that stands in one row teaches nothing about that row.

    Returns
    -------
    float or None
        None where the table has too few rows, or too few of a class, to tell 0.98 from luck.
    """
    rows = np.flatnonzero(question.labels.is_not_null().to_numpy())
    if len(rows) > _MOST_ROWS:
        rows = rows[np.linspace(0, len(rows) - 1, _MOST_ROWS).astype(np.int64)]
    labels = question.labels.to_numpy()[rows]
    if len(rows) < _LEAST_ROWS:
        return None
    bins = _bins(column, rows)
    folds = np.arange(len(rows)) % _FOLDS
    # Neighbours in time may be alike, and then shuffled folds are no strict judges; but only a warning follows.
    np.random.default_rng(7).shuffle(folds)
    if question.kind == "regression":
        # R2 knows no unit; sums and squares of 1e308 would be infinite.
        labels = labels / np.abs(labels).max()
        return float(r2_score(labels, _scores(bins, labels, folds)))
    aucs = []
    for target in _targets(question, labels):
        if min(target.sum(), len(target) - target.sum()) >= _LEAST_OF_A_CLASS:
            aucs.append(float(roc_auc_score(target, _scores(bins, target, folds))))
    return float(np.mean(aucs)) if aucs else None


def _targets(question: Question, labels: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    if question.kind == "binary":
        yield labels
        return
    for index in range(len(question.classes)):
        yield (labels == index).astype(np.float64)


def _bins(column: InputColumn, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    values = column.values.gather(rows)
    distinct = values.n_unique()
    if column.kind == "text" or distinct <= _DISTINCT_BINS:
        return values.rank("dense").fill_null(0).cast(pl.Int64).to_numpy().astype(np.int64)
    numbers = values.to_physical().cast(pl.Float64)
    given = numbers.drop_nulls().to_numpy()
    edges = np.unique(np.quantile(given, np.linspace(0, 1, _BINS + 1)[1:-1]))
    known = numbers.is_not_null().to_numpy()
    bins = np.zeros(len(rows), np.int64)
    bins[known] = 1 + np.searchsorted(edges, given, side="right")
    return bins


def _scores(bins: NDArray[np.int64], target: NDArray[np.float64], folds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for each row the mean target of its bin in the other folds, drawn to the mean of all."""
    width = int(bins.max()) + 1
    place = folds * width + bins
    sums = np.bincount(place, target, width * _FOLDS).reshape(_FOLDS, width)
    counts = np.bincount(place, minlength=width * _FOLDS).reshape(_FOLDS, width)
    others, rows = sums.sum(0) - sums, counts.sum(0) - counts
    mean = others.sum(1, keepdims=True) / np.maximum(1, rows.sum(1, keepdims=True))
    means = (others + _SMOOTHING * mean) / (rows + _SMOOTHING)
    return np.asarray(means[folds, bins], np.float64)
