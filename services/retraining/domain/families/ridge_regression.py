"""Ridge regression of scikit-learn."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.linear_model import Ridge

from tidemill.services.retraining.domain.families.family import Fitted, Matrix, Sample, Scores
from tidemill.services.retraining.domain.families.standardisation import Standardisation
from tidemill.shared.models.export import linear_to_onnx


class RidgeRegression:
    """A linear model of a number on standardised columns, its coefficients drawn towards zero."""

    def suggest(self, trial: Any) -> dict[str, Any]:  # optuna is untyped
        """Draw the penalty, in rows."""
        return {"penalty": trial.suggest_float("penalty", 1e-2, 1e3, log=True)}

    def fit(self, sample: Sample, parameters: Mapping[str, Any], seed: int) -> Fitted:
        """Standardise, and solve."""
        standardised = Standardisation.of(sample.matrix)
        model = Ridge(alpha=parameters["penalty"], solver="cholesky").fit(standardised(sample.matrix), sample.labels, sample_weight=sample.weights)

        def predict(rows: Matrix) -> Scores:
            scores: Scores = model.predict(standardised(rows))
            return scores

        bias = np.array([float(model.intercept_)])
        return Fitted(predict, lambda: linear_to_onnx(standardised.means, standardised.scales, model.coef_.reshape(1, -1), bias, "none"))


FAMILY = RidgeRegression()
