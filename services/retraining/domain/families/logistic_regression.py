"""Logistic regression of scikit-learn."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression as Estimator

from tidemill.services.retraining.domain.families.family import Fitted, Matrix, Scores
from tidemill.shared.models.export import logistic_to_onnx


class LogisticRegression:
    """A linear model of the log odds on standardised columns; a missing value counts as the column's mean."""

    def suggest(self, trial: Any) -> dict[str, Any]:  # noqa: ANN401, RUF100 - optuna is untyped
        """Draw how far the coefficients may go."""
        return {"strength": trial.suggest_float("strength", 1e-3, 1.0, log=True)}

    def fit(self, matrix: Matrix, labels: Scores, parameters: Mapping[str, Any], seed: int, weights: Scores | None) -> Fitted:
        """Standardise by what is known of each column, and fit."""
        known = ~np.isnan(matrix)
        count = np.maximum(known.sum(axis=0), 1)
        means = np.where(known, matrix, 0.0).sum(axis=0, dtype=np.float64) / count
        spread = np.sqrt((np.where(known, matrix - means, 0.0) ** 2).sum(axis=0) / count)
        scales = np.where(spread > 0, spread, 1.0)

        def standardised(rows: Matrix) -> NDArray[np.float64]:
            return np.where(np.isnan(rows), 0.0, (rows - means) / scales)

        model = Estimator(C=parameters["strength"], max_iter=300, random_state=seed).fit(standardised(matrix), labels, sample_weight=weights)
        coefficients, bias = model.coef_[0], float(model.intercept_[0])
        return Fitted(lambda rows: model.predict_proba(standardised(rows))[:, 1], lambda: logistic_to_onnx(means, scales, coefficients, bias))


FAMILY = LogisticRegression()
