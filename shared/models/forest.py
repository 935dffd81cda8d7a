"""Forests as plain arrays, read from the ONNX graph that is their served form."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numba import njit
from numpy.typing import NDArray
from onnx import numpy_helper

from tidemill.shared.models.blocks import Blocks
from tidemill.shared.models.forest_kernel import score_forests

MOST_LEAVES = 64
_NARROW = 32


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
        node = _only_ensemble(graph)
        if node is None:
            return None
        ensemble = {attribute.name: attribute for attribute in node.attribute}
        if any(name.endswith("as_tensor") for name in ensemble):
            return None
        classifier = node.op_type == "TreeEnsembleClassifier"
        transform = _text(ensemble, "post_transform", "NONE")
        outputs = _ints(ensemble, "class_ids" if classifier else "target_ids")
        labels = _ints(ensemble, "classlabels_int64s")
        binary = transform == "LOGISTIC" and list(labels) == [0, 1]
        number = transform == "NONE" and _text(ensemble, "aggregate_function", "SUM") == "SUM"
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


def _only_ensemble(graph: onnx.GraphProto) -> onnx.NodeProto | None:
    """Return the tree ensemble that makes the last output from the only input, or None."""
    made_by = {name: node for node in graph.node for name in node.output}
    ones = {tensor.name for tensor in graph.initializer if (numpy_helper.to_array(tensor) == 1).all()}
    wanted = graph.output[-1].name
    while (node := made_by.get(wanted)) is not None and (node.op_type == "Identity" or (node.op_type == "Mul" and node.input[1] in ones)):
        wanted = node.input[0]
    if node is None or len(graph.input) != 1 or node.input[0] != graph.input[0].name:
        return None
    scores = {"TreeEnsembleClassifier": 1, "TreeEnsembleRegressor": 0}.get(node.op_type)
    return node if scores is not None and node.output[scores] == wanted else None


def _flatten(ensemble: dict[str, onnx.AttributeProto], leaf: str, logistic: bool) -> Forest | None:
    trees, modes = _ints(ensemble, "nodes_treeids"), list(ensemble["nodes_modes"].strings)
    if not set(modes) <= {b"BRANCH_LEQ", b"LEAF"}:
        return None
    is_leaf = np.array([mode == b"LEAF" for mode in modes])
    names = trees << 32 | _ints(ensemble, "nodes_nodeids")
    weights = _at(_ints(ensemble, f"{leaf}_treeids") << 32 | _ints(ensemble, f"{leaf}_nodeids"), names)
    order = np.argsort(weights, kind="stable")
    if not np.array_equal(weights[order], np.flatnonzero(is_leaf)):
        return None
    values = np.zeros(len(names), np.float32)
    values[weights] = _floats(ensemble, f"{leaf}_weights")
    thresholds = _floats(ensemble, "nodes_values")
    passing, failing = (np.where(is_leaf, -1, _at(trees << 32 | _ints(ensemble, name), names)) for name in _CHILDREN)
    tracks = _ints(ensemble, "nodes_missing_value_tracks_true")
    missing_passes = tracks.astype(np.bool_) if len(tracks) else np.zeros(len(names), np.bool_)
    roots = np.sort(np.unique(trees, return_index=True)[1])
    columns = _ints(ensemble, "nodes_featureids").astype(np.int32)
    lengths = {len(part) for part in (trees, names, modes, thresholds, missing_passes, columns)}
    if len(lengths) > 1 or (np.minimum(np.minimum(passing, failing), columns)[~is_leaf] < 0).any():
        return None
    inner = int((~is_leaf).sum())
    flat = (np.empty(inner, np.int32), np.empty(inner, np.float32), np.empty(inner, np.int64), np.empty(len(weights), np.float32))
    starts = (np.zeros(len(roots) + 1, np.int64), np.zeros(len(roots), np.int64), np.zeros(len(roots) + 1, np.int64))
    most = _unfold(roots, passing, failing, columns, thresholds, missing_passes, values, *flat, *starts)
    if most < 0:
        return None
    base = _floats(ensemble, "base_values")
    keeps = flat[2] if most > _NARROW else flat[2].astype(np.int32)
    return Forest(flat[0], flat[1], keeps, starts[0], starts[1], flat[3], starts[2], float(base[0]) if len(base) else 0.0, logistic)


_CHILDREN = ("nodes_truenodeids", "nodes_falsenodeids")


@njit(cache=True)
def _unfold(  # type: ignore[no-untyped-def]  # pragma: no cover
    roots, passing, failing, columns, thresholds, missing_passes, values,
    flat_columns, flat_thresholds, flat_keeps, flat_leaves, first_node, first_failing, first_leaf,
):  # fmt: skip
    """Write trees as lists of nodes, those that let a missing value pass first; return the most leaves of a tree, or -1 when this cannot be done."""
    path, stage, begin = np.empty(MOST_LEAVES, np.int64), np.empty(MOST_LEAVES, np.int64), np.empty(MOST_LEAVES, np.int64)
    found, keep = np.empty(MOST_LEAVES, np.int64), np.empty(MOST_LEAVES, np.int64)
    node_count, leaf_count, most = 0, 0, 0
    for tree in range(roots.size):
        nodes, leaves, depth = 0, 0, 1
        path[0], stage[0] = roots[tree], 0
        while depth:
            node, last = path[depth - 1], depth - 1
            if passing[node] < 0:
                if leaves == MOST_LEAVES or leaf_count + leaves == flat_leaves.size:
                    return -1
                flat_leaves[leaf_count + leaves] = values[node]
                leaves += 1
                depth -= 1
            elif stage[last] == 2:
                depth -= 1
            else:
                if depth == MOST_LEAVES:
                    return -1
                if stage[last] == 0:
                    begin[last] = leaves
                else:
                    ruled_out = np.int64(0)
                    for leaf in range(begin[last], leaves):
                        ruled_out |= np.int64(1) << np.int64(leaf)
                    if node_count + nodes == flat_columns.size:
                        return -1
                    found[nodes], keep[nodes] = node, ~ruled_out
                    nodes += 1
                path[depth], stage[depth] = passing[node] if stage[last] == 0 else failing[node], 0
                stage[last] += 1
                depth += 1
        for passes in (True, False):
            if not passes:
                first_failing[tree] = node_count
            for i in range(nodes):
                if missing_passes[found[i]] == passes:
                    flat_columns[node_count], flat_thresholds[node_count] = columns[found[i]], thresholds[found[i]]
                    flat_keeps[node_count] = keep[i]
                    node_count += 1
        leaf_count += leaves
        first_node[tree + 1], first_leaf[tree + 1], most = node_count, leaf_count, max(most, leaves)
    return most


def _at(wanted: NDArray[np.int64], names: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each name stands, -1 where it does not."""
    order = np.argsort(names, kind="stable")
    place = np.minimum(np.searchsorted(names[order], wanted), len(names) - 1)
    return np.where(names[order][place] == wanted, order[place], -1)


def _ints(ensemble: dict[str, onnx.AttributeProto], name: str) -> NDArray[np.int64]:
    return np.array(ensemble[name].ints if name in ensemble else [], np.int64)


def _floats(ensemble: dict[str, onnx.AttributeProto], name: str) -> NDArray[np.float32]:
    return np.array(ensemble[name].floats if name in ensemble else [], np.float32)


def _text(ensemble: dict[str, onnx.AttributeProto], name: str, default: str) -> str:
    return ensemble[name].s.decode() if name in ensemble else default
