"""Trees of any library as one ONNX graph that decides exactly as they do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tidemill.shared.models.export import Link, canonical, input_of
from tidemill.shared.models.rounding import at_most


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree whose nodes are numbered, the root 0: a row goes left where its column is at most the threshold.

    Attributes
    ----------
    columns, left, right : int64, shape (nodes,)
        Left and right are -1 at a leaf.
    thresholds : float64, shape (nodes,)
    missing_left : bool, shape (nodes,)
        Where a missing value goes.
    values : float64, shape (nodes, width)
        What a leaf adds to `width` outputs, `first_output` the first of them.
    """

    columns: NDArray[np.int64]
    thresholds: NDArray[np.float64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    missing_left: NDArray[np.bool_]
    values: NDArray[np.float64]
    first_output: int = 0


def trees_to_onnx(trees: Sequence[Tree], base: NDArray[np.float64], link: Link, columns: int) -> bytes:
    """Export a sum of trees: float32 matrix (n, columns) in; (n, outputs) out, for ``logistic`` (n, 2).

    The inputs are float32 and the libraries' thresholds are not: a threshold becomes the greatest float32 that is not above it, so that every input
    goes where it went. The graph is one ensemble, behind it a softmax where that is the link, and is served by our own kernel up to 64 leaves.

    Parameters
    ----------
    base : shape (outputs,)
        Where the sums begin.
    """
    outputs = len(base)
    weighted: set[int] = set()
    names = ("treeids", "nodeids", "featureids", "values", "truenodeids", "falsenodeids", "missing_value_tracks_true", "modes")
    nodes: dict[str, list[object]] = {name: [] for name in names}
    leaves: dict[str, list[object]] = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}
    for i, tree in enumerate(trees):
        leaf = tree.left < 0
        nodes["treeids"] += [i] * len(leaf)
        nodes["nodeids"] += range(len(leaf))
        nodes["featureids"] += np.where(leaf, 0, tree.columns).tolist()
        nodes["values"] += np.where(leaf, 0.0, at_most(tree.thresholds)).tolist()
        nodes["truenodeids"] += np.where(leaf, 0, tree.left).tolist()
        nodes["falsenodeids"] += np.where(leaf, 0, tree.right).tolist()
        nodes["missing_value_tracks_true"] += np.where(leaf, 0, tree.missing_left).tolist()
        nodes["modes"] += np.where(leaf, "LEAF", "BRANCH_LEQ").tolist()
        # The base goes to the first tree of each output: runtimes differ in how they add it.
        width = tree.values.shape[1]
        own = range(tree.first_output, tree.first_output + width)
        begin = np.array([0.0 if output in weighted else base[output] for output in own])
        weighted.update(own)
        places = np.flatnonzero(leaf)
        leaves["treeids"] += [i] * len(places) * width
        leaves["nodeids"] += np.repeat(places, width).tolist()
        leaves["ids"] += list(own) * len(places)
        leaves["weights"] += (tree.values[places] + begin).astype(np.float32).ravel().tolist()
    if len(weighted) < outputs:
        raise ValueError(f"expected trees for each of {outputs} outputs, found some for {sorted(weighted)}")
    kind = "class" if link == "logistic" else "target"
    attributes: dict[str, Any] = {f"nodes_{name}": values for name, values in nodes.items()}
    attributes |= {f"{kind}_{name}": values for name, values in leaves.items()}
    if link == "logistic":
        node = helper.make_node(
            "TreeEnsembleClassifier", ["input"], ["label", "probabilities"], domain="ai.onnx.ml",
            classlabels_int64s=[0, 1], post_transform="LOGISTIC", **attributes,
        )  # fmt: skip
        answers = [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
        ]
        return canonical([node], "trees", [input_of(columns)], answers, {})
    raw = "sums" if link == "softmax" else "scores"
    made = [helper.make_node("TreeEnsembleRegressor", ["input"], [raw], domain="ai.onnx.ml", n_targets=outputs, post_transform="NONE", **attributes)]
    if link == "softmax":
        made.append(helper.make_node("Softmax", ["sums"], ["scores"], axis=1))
    return canonical(made, "trees", [input_of(columns)], [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, outputs])], {})
