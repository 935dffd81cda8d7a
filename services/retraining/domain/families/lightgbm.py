"""Gradient boosted trees of LightGBM."""

from collections.abc import Mapping
from typing import Any

import lightgbm
import numpy as np

from tidemill.services.retraining.domain.families.boosting import suggest_boosting
from tidemill.services.retraining.domain.families.family import Fitted, Matrix, Sample, Scores
from tidemill.shared.models.export import lightgbm_to_onnx

_THREADS = 2
_OBJECTIVES = {"binary": "binary", "multiclass": "multiclass", "regression": "regression"}


class LightGBM:
    """Boosted trees, split at the best of all leaves; missing values go where the loss is smaller.

    Several classes have a tree each in every round.

    References
    ----------
    Ke et al.: LightGBM: a highly efficient gradient boosting decision tree. NeurIPS 2017.
    """

    def suggest(self, trial: Any) -> dict[str, Any]:  # optuna is untyped
        """Draw the number of rounds and what keeps each tree simple."""
        return suggest_boosting(trial, 30)

    def fit(self, sample: Sample, parameters: Mapping[str, Any], seed: int) -> Fitted:
        """Train on two threads; their number is part of the result."""
        settings = {
            "objective": _OBJECTIVES[sample.kind.name],
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
            **({"num_class": sample.kind.width} if sample.kind.classes else {}),
        }
        rows = lightgbm.Dataset(sample.matrix, sample.labels, weight=sample.weights, free_raw_data=True)
        booster, width = lightgbm.train(settings, rows, parameters["trees"]), sample.width

        def predict(rows: Matrix) -> Scores:
            return np.asarray(booster.predict(rows, num_threads=_THREADS), np.float64)

        return Fitted(predict, lambda: lightgbm_to_onnx(booster, width), lambda: str(booster.model_to_string()))


FAMILY = LightGBM()
