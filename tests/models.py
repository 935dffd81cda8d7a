"""Small trained models as artifacts."""

from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from tidemill.shared.models.artifacts import Artifact
from tidemill.shared.models.export import lightgbm_to_onnx, logistic_to_onnx
from tidemill.shared.models.signature import Column, Signature

PARAMETERS = {"objective": "binary", "verbose": -1, "num_threads": 1, "deterministic": True, "force_row_wise": True, "seed": 1, "num_leaves": 15}
ROUNDS = 40


def data(rows: int, columns: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(rows, columns)).astype(np.float32)
    matrix[rng.random(matrix.shape) < 0.1] = np.nan
    label = (np.nan_to_num(matrix[:, 0]) + np.nan_to_num(matrix[:, 1]) ** 2 + rng.normal(size=rows) > 1).astype(np.int64)
    return matrix, label


def artifact(
    family: str, columns: tuple[Column, ...], version: str = "v1", **changes: Any
) -> tuple[Artifact, NDArray[np.float32], NDArray[np.float64]]:
    """Return an artifact, fresh rows, and the scores the training library itself gives for them."""
    matrix, label = data(1_000, len(columns), 0)
    fresh, _ = data(300, len(columns), 1)
    if family == "lightgbm":
        booster = lightgbm.train(PARAMETERS, lightgbm.Dataset(matrix, label), ROUNDS)
        onnx = lightgbm_to_onnx(booster, len(columns))
        scores = np.asarray(booster.predict(fresh))
    else:
        means, scales = np.nanmean(matrix, 0), np.nanstd(matrix, 0)
        model = LogisticRegression().fit((np.where(np.isnan(matrix), means, matrix) - means) / scales, label)
        onnx = logistic_to_onnx(means, scales, model.coef_[0], float(model.intercept_[0]))
        scores = expit(((np.where(np.isnan(fresh), means, fresh) - means) / scales) @ model.coef_[0] + model.intercept_[0])
    rows = tuple(tuple(None if np.isnan(x) else float(x) for x in row) for row in fresh[:8])
    made = {
        "model": "m",
        "version": version,
        "family": family,
        "columns": columns,
        "threshold": 0.5,
        "parity_rows": rows,
        "parity_scores": tuple(scores[:8].tolist()),
    }
    return Artifact(Signature(**{**made, **changes}), onnx), fresh, scores
