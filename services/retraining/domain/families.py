"""Model families: how each is fitted, scored and exported."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from tidemill.shared.models.export import lightgbm_to_onnx, logistic_to_onnx

Matrix = NDArray[np.float32]
Scores = NDArray[np.float64]
_THREADS = 2


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained model: how the library scores, and its ONNX graph."""

    predict: Callable[[Matrix], Scores]
    export: Callable[[], bytes]


def suggest(trial: Any, families: Sequence[str], windows_days: Sequence[int]) -> dict[str, Any]:  # noqa: ANN401, RUF100 - optuna is untyped
    """Draw a family, a training window and the family's own hyperparameters."""
    family = trial.suggest_categorical("family", list(families))
    drawn = {"family": family, "window_days": trial.suggest_categorical("window_days", list(windows_days))}
    if family == "logistic_regression":
        return {**drawn, "strength": trial.suggest_float("strength", 1e-3, 1.0, log=True)}
    return {
        **drawn,
        "trees": trial.suggest_int("trees", 60, 120, step=20),
        "learning_rate": trial.suggest_float("learning_rate", 0.05, 0.2, log=True),
        "leaves": trial.suggest_int("leaves", 12, 48, log=True),
        "rows_per_leaf": trial.suggest_int("rows_per_leaf", 30, 300, log=True),
        "feature_share": trial.suggest_float("feature_share", 0.4, 0.9),
        "ridge": trial.suggest_float("ridge", 1e-2, 30.0, log=True),
    }


def fit(matrix: Matrix, labels: NDArray[np.float64], parameters: Mapping[str, Any], seed: int, weights: NDArray[np.float64] | None = None) -> Fitted:
    """Train one model; the same arguments give the same bytes on the same CPU class.

    Parameters
    ----------
    matrix : shape (n, columns), NaN where missing
    labels : shape (n,), 0 or 1
    weights : shape (n,)
        How many rows each stands for; None counts each once.
    """
    with threadpool_limits(1):
        return _FAMILIES[parameters["family"]](matrix, labels, parameters, seed, weights)


def _fit_lightgbm(
    matrix: Matrix, labels: NDArray[np.float64], parameters: Mapping[str, Any], seed: int, weights: NDArray[np.float64] | None
) -> Fitted:
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


def _fit_logistic(
    matrix: Matrix, labels: NDArray[np.float64], parameters: Mapping[str, Any], seed: int, weights: NDArray[np.float64] | None
) -> Fitted:
    known = ~np.isnan(matrix)
    count = np.maximum(known.sum(axis=0), 1)
    means = np.where(known, matrix, 0.0).sum(axis=0, dtype=np.float64) / count
    spread = np.sqrt((np.where(known, matrix - means, 0.0) ** 2).sum(axis=0) / count)
    scales = np.where(spread > 0, spread, 1.0)

    def standardised(rows: Matrix) -> NDArray[np.float64]:
        return np.where(np.isnan(rows), 0.0, (rows - means) / scales)

    model = LogisticRegression(C=parameters["strength"], max_iter=300, random_state=seed).fit(standardised(matrix), labels, sample_weight=weights)
    weights, bias = model.coef_[0], float(model.intercept_[0])
    return Fitted(lambda rows: model.predict_proba(standardised(rows))[:, 1], lambda: logistic_to_onnx(means, scales, weights, bias))


_FAMILIES: Mapping[str, Callable[..., Fitted]] = {"lightgbm": _fit_lightgbm, "logistic_regression": _fit_logistic}
