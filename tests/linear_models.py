"""Artifacts of each kind without training: a linear graph with the weights that a test wants."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tidemill.shared.models.artifacts import Artifact
from tidemill.shared.models.signature import Column, Signature


def linear_artifact(kind: str, weights: NDArray[np.float64], version: str = "v1", classes: tuple[str, ...] = (), **changes: Any) -> Artifact:
    """Return a model of the columns f0, f1, ...: their product with the weights, shape (columns, width), of classes its softmax or sigmoid."""
    columns = tuple(Column(name=f"f{i}", type="double") for i in range(len(weights)))
    last = {"binary": "Sigmoid", "multiclass": "Softmax", "regression": "Identity"}[kind]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["input", "weights"], ["line"]), helper.make_node(last, ["line"], ["answer"])],
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [None, len(weights)])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [None, weights.shape[1]])],
        [numpy_helper.from_array(weights.astype(np.float32), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    rows = np.random.default_rng(0).normal(size=(4, len(weights))).astype(np.float32)
    scores = linear_scores(kind, rows.astype(np.float64), weights)
    made: dict[str, Any] = {
        "model": "m",
        "version": version,
        "family": "linear",
        "columns": columns,
        "kind": kind,
        "classes": classes,
        "threshold": 0.5,
        "parity_rows": tuple(map(tuple, rows.tolist())),
        "parity_scores": tuple(map(tuple, scores.tolist())) if classes else tuple(scores.tolist()),
        "parity_tolerance": 1e-5,
    }
    return Artifact(Signature(**{**made, **changes}), bytes(model.SerializeToString(deterministic=True)))


def linear_scores(kind: str, rows: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what such a model scores, computed here: shape (n,), of several classes (n, K)."""
    line = rows @ weights
    if kind == "multiclass":
        powers = np.exp(line - line.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
    return np.asarray(1 / (1 + np.exp(-line[:, 0])) if kind == "binary" else line[:, 0])
