"""Gradient boosted trees of LightGBM."""

from collections.abc import Mapping
from typing import Any

import lightgbm
import numpy as np

from tidemill.services.retraining.domain.families.family import Fitted, Matrix, Scores
from tidemill.shared.models.export import lightgbm_to_onnx

_THREADS = 2


class LightGBM:
    """Boosted trees, split at the best of all leaves; missing values go where the loss is smaller.

    References
    ----------
    Ke et al.: LightGBM: a highly efficient gradient boosting decision tree. NeurIPS 2017.
    """

    def suggest(self, trial: Any) -> dict[str, Any]:  # noqa: ANN401, RUF100 - optuna is untyped
        """Draw the number of trees and what keeps each of them simple."""
        return {
            "trees": trial.suggest_int("trees", 60, 120, step=20),
            "learning_rate": trial.suggest_float("learning_rate", 0.05, 0.2, log=True),
            "leaves": trial.suggest_int("leaves", 12, 48, log=True),
            "rows_per_leaf": trial.suggest_int("rows_per_leaf", 30, 300, log=True),
            "feature_share": trial.suggest_float("feature_share", 0.4, 0.9),
            "ridge": trial.suggest_float("ridge", 1e-2, 30.0, log=True),
        }

    def fit(self, matrix: Matrix, labels: Scores, parameters: Mapping[str, Any], seed: int, weights: Scores | None) -> Fitted:
        """Train on two threads; their number is part of the result."""
        settings = {
            "objective": "binary",
            "learning_rate": parameters["learning_rate"],
            "num_leaves": parameters["leaves"],
            "min_data_in_leaf": parameters["rows_per_leaf"],
            "feature_fraction": parameters["feature_share"],
            "lambda_l2": parameters["ridge"],
            "max_bin": 127,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": _THREADS,
            "verbosity": -1,
        }
        booster = lightgbm.train(settings, lightgbm.Dataset(matrix, labels, weight=weights, free_raw_data=True), parameters["trees"])
        width = matrix.shape[1]
        return Fitted(lambda rows: np.asarray(booster.predict(rows, num_threads=_THREADS), np.float64), lambda: lightgbm_to_onnx(booster, width))


FAMILY = LightGBM()
