"""Forests whose trees are averaged: what random forests and extra trees share."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.services.retraining.domain.families.family import Fitted, Matrix, Sample, Scores
from tidemill.shared.models.tree_graph import Tree, trees_to_onnx

_THREADS = 2


class AveragedTrees:
    """The mean of trees grown apart from each other.

    The probability of a leaf is a share of few rows, and where all trees agree the mean is 0 or 1, which no number of rows makes sure of. The mean is
    therefore drawn towards the overall rate as much as one row more in a smallest leaf would draw it.

    Parameters
    ----------
    classifier, regressor
        Classes of scikit-learn.
    """

    def __init__(self, classifier: Any, regressor: Any) -> None:  # scikit-learn is untyped
        self._classifier, self._regressor = classifier, regressor

    def suggest(self, trial: Any) -> dict[str, Any]:  # optuna is untyped
        """Draw how many trees there are, and how large and how different from each other."""
        return {
            "trees": trial.suggest_int("trees", 60, 120, step=20),
            "leaves": trial.suggest_int("leaves", 32, 512, log=True),
            "rows_per_leaf": trial.suggest_int("rows_per_leaf", 3, 50, log=True),
            "feature_share": trial.suggest_float("feature_share", 0.2, 0.8),
        }

    def fit(self, sample: Sample, parameters: Mapping[str, Any], seed: int) -> Fitted:
        """Grow the trees, two at a time."""
        numbers = sample.kind.name == "regression"
        model = (self._regressor if numbers else self._classifier)(
            n_estimators=parameters["trees"], max_leaf_nodes=parameters["leaves"], min_samples_leaf=parameters["rows_per_leaf"],
            max_features=parameters["feature_share"], random_state=seed, n_jobs=_THREADS,
        )  # fmt: skip
        # Each tree's thread sets the process's filters of warnings, and puts back what it found: that of the other thread. Once nothing is left of
        # them, scikit-learn says of every tree that "`sklearn.utils.parallel.delayed` should be used with" what it is used with.
        with warnings.catch_warnings():
            model.fit(sample.matrix, sample.labels if numbers else sample.labels.astype(np.int64), sample_weight=sample.weights)
        # Several threads add up in the order in which they finish.
        model.n_jobs = 1
        rates, drawn = _rates(sample), 0.0 if numbers else 1.0 / (1.0 + parameters["rows_per_leaf"])
        several, width = bool(sample.kind.classes), sample.width

        def predict(rows: Matrix) -> Scores:
            if numbers:
                scores: Scores = model.predict(rows)
                return scores
            scores = (1.0 - drawn) * model.predict_proba(rows) + drawn * rates
            return scores if several else scores[:, 1]

        def export() -> bytes:
            trees = []
            for estimator in model.estimators_:
                values = _leaves(estimator.tree_.value[:, 0, :], numbers)
                values = values if numbers else (1.0 - drawn) * values + drawn * rates
                trees.append(tree_of(estimator.tree_, (values if numbers or several else values[:, 1:]) / len(model.estimators_)))
            return trees_to_onnx(trees, np.zeros(trees[0].values.shape[1]), "none", width)

        return Fitted(predict, export)


def _rates(sample: Sample) -> NDArray[np.float64]:
    if sample.kind.name == "regression":
        return np.zeros(1)
    rates = np.bincount(sample.labels.astype(np.int64), sample.weights, minlength=max(2, sample.kind.width))
    shares: NDArray[np.float64] = rates / rates.sum()
    return shares


def _leaves(values: NDArray[np.float64], numbers: bool) -> NDArray[np.float64]:
    return values if numbers else values / values.sum(axis=1, keepdims=True)


def tree_of(tree: Any, values: NDArray[np.float64]) -> Tree:  # scikit-learn is untyped
    """Return a tree of scikit-learn's with what each node answers, shape (nodes, outputs)."""
    left, right = tree.children_left.astype(np.int64), tree.children_right.astype(np.int64)
    return Tree(tree.feature.astype(np.int64), tree.threshold, left, right, tree.missing_go_to_left.astype(np.bool_), values)
