"""Forests as plain arrays, read from the ONNX graph that is their served form."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from tidemill.shared.models.blocks import Blocks
from tidemill.shared.models.flat_trees import Attributes, FlatTrees, attributes_of, floats, integers, text
from tidemill.shared.models.forest_kernel import score_forests


@dataclass(frozen=True, slots=True)
class Forest:
    """A sum of binary trees, float32 as in ONNX; the arrays are those of `score_forests`.

    Attributes
    ----------
    keeps
        int32 when no tree has more than 32 leaves, else int64.
    logistic
        Whether the sum becomes a probability.
    """

    columns: NDArray[np.int32]
    thresholds: NDArray[np.float32]
    keeps: NDArray[np.int32] | NDArray[np.int64]
    first_node: NDArray[np.int64]
    first_failing: NDArray[np.int64]
    leaves: NDArray[np.float32]
    first_leaf: NDArray[np.int64]
    base: float
    logistic: bool

    @classmethod
    def from_graph(cls, graph: onnx.GraphProto) -> "Forest | None":
        """Read a graph that is one tree ensemble from input to output; None for any other, and for trees of more than 64 leaves."""
        node_and_softmax = ensemble_of(graph)
        if node_and_softmax is None or node_and_softmax[1]:
            return None
        node = node_and_softmax[0]
        ensemble = attributes_of(node)
        classifier = node.op_type == "TreeEnsembleClassifier"
        transform = text(ensemble, "post_transform", "NONE")
        outputs = integers(ensemble, "class_ids" if classifier else "target_ids")
        labels = integers(ensemble, "classlabels_int64s")
        binary = transform == "LOGISTIC" and list(labels) == [0, 1]
        number = transform == "NONE" and text(ensemble, "aggregate_function", "SUM") == "SUM"
        if not (binary if classifier else number) or len(set(outputs.tolist())) != 1:
            return None
        return _flatten(ensemble, "class" if classifier else "target", classifier)


class ForestStack:
    """Forests side by side, scored in one call.

    Parameters
    ----------
    forests
        At least one; all with masks of one width.
    positions
        Per forest, the row of the inputs' table that each of its columns is.
    """

    def __init__(self, forests: Sequence[Forest], positions: Sequence[NDArray[np.int32]]) -> None:
        trees = [len(forest.first_failing) for forest in forests]
        nodes = np.cumsum([0, *(len(forest.columns) for forest in forests)])
        leaves = np.cumsum([0, *(len(forest.leaves) for forest in forests)])
        self._first_tree = np.cumsum([0, *trees]).astype(np.int64)
        self._base = np.array([forest.base for forest in forests], np.float32)
        self._logistic = np.array([forest.logistic for forest in forests], np.bool_)
        self._first_node = _chained([forest.first_node[:-1] for forest in forests], nodes, nodes[-1])
        self._first_failing = _chained([forest.first_failing for forest in forests], nodes)
        self._first_leaf = _chained([forest.first_leaf[:-1] for forest in forests], leaves, leaves[-1])
        self._columns = np.concatenate([rows[forest.columns] for forest, rows in zip(forests, positions, strict=True)]).astype(np.int32)
        self._thresholds = np.concatenate([forest.thresholds for forest in forests])
        self._keeps = np.concatenate([forest.keeps for forest in forests])
        self._leaves = np.concatenate([forest.leaves for forest in forests])
        self._width = int(self._columns.max(initial=-1)) + 1

    def score(self, blocks: Blocks) -> NDArray[np.float64]:
        """Return one score per forest and row, shape (forests, padded rows)."""
        if blocks.shape[1] < self._width:
            raise ValueError(f"expected blocks of at least {self._width} columns, found {blocks.shape[1]}")
        scores = np.empty((len(self._base), blocks.shape[0] * blocks.shape[2]), np.float64)
        score_forests(
            blocks, self._first_tree, self._base, self._logistic, self._first_node, self._first_failing, self._columns, self._thresholds,
            self._keeps, self._first_leaf, self._leaves, scores,
        )  # fmt: skip
        return scores


def _chained(parts: Sequence[NDArray[np.int64]], starts: NDArray[np.int64], *last: int) -> NDArray[np.int64]:
    """Join positions that each counted from zero."""
    return np.concatenate([*(part + start for part, start in zip(parts, starts.tolist(), strict=False)), np.array(last, np.int64)]).astype(np.int64)


def ensemble_of(graph: onnx.GraphProto) -> tuple[onnx.NodeProto, bool] | None:
    """Return the tree ensemble that makes the last output from the only input, and whether a softmax follows it; None for any other graph."""
    made_by = {name: node for node in graph.node for name in node.output}
    ones = {tensor.name for tensor in graph.initializer if (numpy_helper.to_array(tensor) == 1).all()}
    wanted, softmax = graph.output[-1].name, False
    while (node := made_by.get(wanted)) is not None:
        if node.op_type == "Softmax" and not softmax and all(one.name == "axis" and one.i in (1, -1) for one in node.attribute):
            softmax = True
        elif not (node.op_type == "Identity" or (node.op_type == "Mul" and node.input[1] in ones)):
            break
        wanted = node.input[0]
    if node is None or len(graph.input) != 1 or node.input[0] != graph.input[0].name:
        return None
    scores = {"TreeEnsembleClassifier": 1, "TreeEnsembleRegressor": 0}.get(node.op_type)
    return (node, softmax) if scores is not None and node.output[scores] == wanted else None


def _flatten(ensemble: Attributes, leaf: str, logistic: bool) -> Forest | None:
    trees = FlatTrees.of(ensemble)
    if trees is None:
        return None
    weights = trees.nodes_of(ensemble, leaf)
    if not np.array_equal(np.sort(weights), np.sort(trees.leaf_nodes)):
        return None
    values = np.zeros(len(trees.names), np.float32)
    values[weights] = floats(ensemble, f"{leaf}_weights")
    base = floats(ensemble, "base_values")
    return Forest(
        trees.columns, trees.thresholds, trees.keeps, trees.first_node, trees.first_failing, values[trees.leaf_nodes], trees.first_leaf,
        float(base[0]) if len(base) else 0.0, logistic,
    )  # fmt: skip
