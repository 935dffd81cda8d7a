"""Logistic regression of scikit-learn."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression as Estimator

from tidemill.services.retraining.domain.families.family import Fitted, Matrix, Sample, Scores
from tidemill.services.retraining.domain.families.standardisation import Standardisation
from tidemill.shared.models.export import Link, linear_to_onnx


class LogisticRegression:
    """A linear model of the log odds on standardised columns, of several classes of the log probabilities."""

    def suggest(self, trial: Any) -> dict[str, Any]:  # optuna is untyped
        """Draw how far the coefficients may go."""
        return {"strength": trial.suggest_float("strength", 1e-3, 1.0, log=True)}

    def fit(self, sample: Sample, parameters: Mapping[str, Any], seed: int) -> Fitted:
        """Standardise, and fit."""
        standardised, several = Standardisation.of(sample.matrix), bool(sample.kind.classes)
        model = Estimator(C=parameters["strength"], max_iter=300, random_state=seed)
        model.fit(standardised(sample.matrix), sample.labels, sample_weight=sample.weights)
        weights, bias = model.coef_, model.intercept_
        # Two classes with names have one set of coefficients and two scores.
        weights, bias = (weights, bias) if not several or len(bias) > 1 else (_halves(weights), _halves(bias))

        def predict(rows: Matrix) -> Scores:
            scores: Scores = model.predict_proba(standardised(rows))
            return scores if several else scores[:, 1]

        link: Link = "softmax" if several else "logistic"
        return Fitted(predict, lambda: linear_to_onnx(standardised.means, standardised.scales, weights, bias, link))


def _halves(values: Scores) -> Scores:
    """Return what gives, by softmax over two, what the logistic function gives of one."""
    return np.concatenate([-values / 2, values / 2])


FAMILY = LogisticRegression()
