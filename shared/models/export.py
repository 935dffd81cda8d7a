"""Trained models as ONNX graphs; the same model gives the same bytes."""

import lightgbm
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

_OPSET = 15
_IR_VERSION = 8


def lightgbm_to_onnx(booster: lightgbm.Booster, columns: int) -> bytes:
    """Export a binary booster: float32 matrix (n, columns) in, probabilities (n, 2) out; NaN is missing."""
    graph = convert_lightgbm(booster, "lightgbm", [("input", FloatTensorType([None, columns]))], target_opset=_OPSET, zipmap=False)
    return _canonical(graph)


def logistic_to_onnx(means: NDArray[np.float64], scales: NDArray[np.float64], weights: NDArray[np.float64], bias: float) -> bytes:
    """Export a logistic regression on standardised inputs: a missing value counts as the mean.

    Parameters
    ----------
    means, scales, weights : shape (columns,)
    """
    constants = {
        "means": means.astype(np.float32).reshape(1, -1),
        "scales": scales.astype(np.float32).reshape(1, -1),
        "weights": weights.astype(np.float32).reshape(-1, 1),
        "bias": np.array([bias], np.float32),
    }
    nodes = [
        helper.make_node("IsNaN", ["input"], ["missing"]),
        helper.make_node("Where", ["missing", "means", "input"], ["filled"]),
        helper.make_node("Sub", ["filled", "means"], ["centred"]),
        helper.make_node("Div", ["centred", "scales"], ["standardised"]),
        helper.make_node("Gemm", ["standardised", "weights", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes,
        "logistic_regression",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [None, len(means)])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return _canonical(helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)]))


def _canonical(model: onnx.ModelProto) -> bytes:
    model.ir_version = _IR_VERSION
    model.producer_name, model.producer_version, model.doc_string = "tidemill", "", ""
    # The converter lists the operator sets in the order of a Python set of names, which differs from process to process.
    versions = sorted((entry.domain, entry.version) for entry in model.opset_import)
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in versions)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))
