"""Histogram gradient boosting of scikit-learn."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from tidemill.services.retraining.domain.families.boosting import suggest_boosting
from tidemill.services.retraining.domain.families.family import Fitted, Matrix, Sample, Scores
from tidemill.shared.models.export import Link
from tidemill.shared.models.tree_graph import Tree, trees_to_onnx

_LINKS: Mapping[str, Link] = {"binary": "logistic", "multiclass": "softmax", "regression": "none"}


class HistGradientBoosting:
    """Boosted trees on binned columns; its trees become a graph of our own, since skl2onnx has no converter that works.

    One thread: the number of threads is part of the result. Where LightGBM can be used it is the faster one.
    """

    def suggest(self, trial: Any) -> dict[str, Any]:  # optuna is untyped
        """Draw the number of rounds and what keeps each tree simple."""
        return suggest_boosting(trial, 20)

    def fit(self, sample: Sample, parameters: Mapping[str, Any], seed: int) -> Fitted:
        """Train without early stopping: the search decides how many rounds."""
        numbers, several, width = sample.kind.name == "regression", bool(sample.kind.classes), sample.width
        model = (HistGradientBoostingRegressor if numbers else HistGradientBoostingClassifier)(
            max_iter=parameters["trees"], learning_rate=parameters["learning_rate"], max_leaf_nodes=parameters["leaves"],
            min_samples_leaf=parameters["rows_per_leaf"], max_features=parameters["feature_share"], l2_regularization=parameters["ridge"],
            early_stopping=False, random_state=seed,
        )  # fmt: skip
        # It cannot bin a column of which nothing is known; constant, it is never split.
        unknown = np.isnan(sample.matrix).all(axis=0)
        model.fit(np.where(unknown, np.float32(0), sample.matrix), sample.labels, sample_weight=sample.weights)

        def predict(rows: Matrix) -> Scores:
            scores: Scores = model.predict(rows) if numbers else model.predict_proba(rows)
            return scores if numbers or several else scores[:, 1]

        def export() -> bytes:
            rounds = model._predictors  # noqa: SLF001 - the trees stand nowhere else
            base = np.atleast_1d(np.asarray(model._baseline_prediction, np.float64).ravel())  # noqa: SLF001 - as above
            # Two classes with names have one tree a round and two scores.
            both = several and len(base) == 1
            trees = [tree for one in rounds for k, predictor in enumerate(one) for tree in _trees(predictor.nodes, k, both)]
            return trees_to_onnx(trees, np.concatenate([-base / 2, base / 2]) if both else base, _LINKS[sample.kind.name], width)

        return Fitted(predict, export)


def _trees(nodes: NDArray[np.void], output: int, both: bool) -> list[Tree]:
    leaf = nodes["is_leaf"].astype(np.bool_)
    left, right = (np.where(leaf, -1, nodes[side].astype(np.int64)) for side in ("left", "right"))
    value = nodes["value"].reshape(-1, 1)
    values = np.hstack([-value / 2, value / 2]) if both else value
    columns, missing = nodes["feature_idx"].astype(np.int64), nodes["missing_go_to_left"].astype(np.bool_)
    return [Tree(columns, nodes["num_threshold"], left, right, missing, values, 0 if both else output)]


FAMILY = HistGradientBoosting()
