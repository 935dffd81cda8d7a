"""Trained models as ONNX graphs; the same model gives the same bytes."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tidemill.shared.models.rounding import at_most

if TYPE_CHECKING:
    import lightgbm

Link = Literal["none", "logistic", "softmax"]
"""What makes scores of a model's sums."""

_OPSET = 15
_ML_OPSET = 3
_IR_VERSION = 8


def lightgbm_to_onnx(booster: "lightgbm.Booster", columns: int) -> bytes:
    """Export a booster: float32 matrix (n, columns) in; NaN is missing.

    The last output is probabilities (n, 2) of a binary booster, (n, K) of a multiclass one, and numbers (n, 1) of a regression.
    """
    # It takes a second to load, and a model of another family does not need it.
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    graph = convert_lightgbm(
        _with_float32_thresholds(booster), "lightgbm", [("input", FloatTensorType([None, columns]))], target_opset=_OPSET, zipmap=False
    )
    return canonical_model(graph)


def _with_float32_thresholds(booster: "lightgbm.Booster") -> "lightgbm.Booster":
    """Return the same model with thresholds that a graph's 32 bits hold: each rounded down, so that every 32-bit input answers its test as before.

    The converter rounds to the nearest. A threshold between two neighbouring 32-bit numbers then becomes the upper one, which takes the other branch.
    """
    import lightgbm

    text = re.sub(r"^tree_sizes=.*\n", "", booster.model_to_string(), flags=re.MULTILINE)  # Bytes of each tree, which change.
    return lightgbm.Booster(model_str=re.sub(r"^threshold=(.*)$", _rounded_down, text, flags=re.MULTILINE))


def _rounded_down(line: re.Match[str]) -> str:
    return "threshold=" + " ".join(repr(float(value)) for value in at_most(np.array(line.group(1).split(), np.float64)))


def logistic_to_onnx(means: NDArray[np.float64], scales: NDArray[np.float64], weights: NDArray[np.float64], bias: float) -> bytes:
    """Export a logistic regression on standardised inputs: a missing value counts as the mean.

    Parameters
    ----------
    means, scales, weights : shape (columns,)
    """
    return linear_to_onnx(means, scales, weights.reshape(1, -1), np.array([bias]), "logistic")


def linear_to_onnx(
    means: NDArray[np.float64],
    scales: NDArray[np.float64],
    weights: NDArray[np.float64],
    bias: NDArray[np.float64],
    link: Link,
) -> bytes:
    """Export a linear model on standardised inputs, scores (n, outputs) out: a missing value counts as the mean.

    Parameters
    ----------
    means, scales : shape (columns,)
    weights : shape (outputs, columns)
    bias : shape (outputs,)
    """
    constants = {
        "means": means.astype(np.float32).reshape(1, -1),
        "scales": scales.astype(np.float32).reshape(1, -1),
        "weights": weights.astype(np.float32).T,
        "bias": bias.astype(np.float32),
    }
    operator, sums, scores, name = _LINKS[link]
    nodes = [
        helper.make_node("IsNaN", ["input"], ["missing"]),
        helper.make_node("Where", ["missing", "means", "input"], ["filled"]),
        helper.make_node("Sub", ["filled", "means"], ["centred"]),
        helper.make_node("Div", ["centred", "scales"], ["standardised"]),
        helper.make_node("Gemm", ["standardised", "weights", "bias"], [sums]),
        *([helper.make_node(operator, [sums], [scores])] if operator else []),
    ]
    output = helper.make_tensor_value_info(scores, TensorProto.FLOAT, [None, len(bias)])
    return canonical(nodes, name, [input_of(len(means))], [output], constants)


_LINKS: Mapping[Link, tuple[str, str, str, str]] = {
    "none": ("", "score", "score", "linear_regression"),
    "logistic": ("Sigmoid", "logit", "probability", "logistic_regression"),
    "softmax": ("Softmax", "logits", "probabilities", "logistic_regression"),
}


def estimator_to_onnx(estimator: Any, means: NDArray[np.float32], probabilities: bool) -> bytes:  # scikit-learn is untyped
    """Export a fitted estimator or pipeline of scikit-learn as skl2onnx converts it; a missing value counts as its column's mean.

    Parameters
    ----------
    means : shape (columns,)
    probabilities
        Whether the last output is a table of probabilities; else it is a column of numbers.
    """
    # It takes a second to load, and only estimators of an application's own need it.
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType as OwnTensorType

    model = convert_sklearn(
        estimator, name="estimator", initial_types=[("input", OwnTensorType([None, len(means)]))],
        target_opset={"": _OPSET, "ai.onnx.ml": _ML_OPSET}, options={"zipmap": False} if probabilities else None,
    )  # fmt: skip
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == "input":
                node.input[i] = "filled"
    first = [helper.make_node("IsNaN", ["input"], ["missing"]), helper.make_node("Where", ["missing", "column_means", "input"], ["filled"])]
    nodes = [*first, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(numpy_helper.from_array(means.reshape(1, -1), "column_means"))
    return canonical_model(model)


def input_of(columns: int) -> onnx.ValueInfoProto:
    """Return the one input of a graph."""
    return helper.make_tensor_value_info("input", TensorProto.FLOAT, [None, columns])


def canonical(
    nodes: Sequence[onnx.NodeProto],
    name: str,
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Mapping[str, NDArray[np.float32]],
) -> bytes:
    """Return the bytes of a graph of our own."""
    tensors = [numpy_helper.from_array(np.ascontiguousarray(value), key) for key, value in constants.items()]
    graph = helper.make_graph(list(nodes), name, list(inputs), list(outputs), tensors)
    own = [helper.make_opsetid("", _OPSET)]
    return canonical_model(helper.make_model(graph, opset_imports=[*own, helper.make_opsetid("ai.onnx.ml", _ML_OPSET)] if _is_tree(nodes) else own))


def _is_tree(nodes: Sequence[onnx.NodeProto]) -> bool:
    return any(node.domain == "ai.onnx.ml" for node in nodes)


def canonical_model(model: onnx.ModelProto) -> bytes:
    """Return the bytes of a graph: the same for the same graph, whoever made it and in whatever process."""
    model.ir_version = _IR_VERSION
    model.producer_name, model.producer_version, model.doc_string = "tidemill", "", ""
    # The converter lists the operator sets in the order of a Python set of names, which differs from process to process.
    versions = sorted((entry.domain, entry.version) for entry in model.opset_import)
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in versions)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))
