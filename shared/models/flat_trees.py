"""The trees of an ONNX ensemble as flat arrays, whatever their leaves hold."""

from dataclasses import dataclass

import numpy as np
import onnx
from numba import njit
from numpy.typing import NDArray

MOST_LEAVES = 64
_NARROW = 32
_CHILDREN = ("nodes_truenodeids", "nodes_falsenodeids")
Attributes = dict[str, onnx.AttributeProto]


@dataclass(frozen=True, slots=True)
class FlatTrees:
    """Inner nodes as the kernel runs through them, and the leaves from left to right.

    Attributes
    ----------
    columns, thresholds, keeps, first_node, first_failing, first_leaf
        As of `score_forests`; `keeps` are int32 when no tree has more than 32 leaves, else int64.
    leaf_nodes : int64, shape (leaves,)
        Which node of the graph each leaf is.
    names : int64, shape (nodes,)
        Tree and number of each node of the graph.
    """

    columns: NDArray[np.int32]
    thresholds: NDArray[np.float32]
    keeps: NDArray[np.int32] | NDArray[np.int64]
    first_node: NDArray[np.int64]
    first_failing: NDArray[np.int64]
    first_leaf: NDArray[np.int64]
    leaf_nodes: NDArray[np.int64]
    names: NDArray[np.int64]

    @classmethod
    def of(cls, ensemble: Attributes) -> "FlatTrees | None":
        """Read an ensemble's nodes; None where a tree has more than 64 leaves, or nodes that are not ``column <= threshold``."""
        if any(name.endswith("as_tensor") for name in ensemble):
            return None
        trees, modes = integers(ensemble, "nodes_treeids"), list(ensemble["nodes_modes"].strings)
        if not set(modes) <= {b"BRANCH_LEQ", b"LEAF"}:
            return None
        is_leaf = np.array([mode == b"LEAF" for mode in modes])
        names = trees << 32 | integers(ensemble, "nodes_nodeids")
        thresholds = floats(ensemble, "nodes_values")
        passing, failing = (np.where(is_leaf, -1, _at(trees << 32 | integers(ensemble, name), names)) for name in _CHILDREN)
        tracks = integers(ensemble, "nodes_missing_value_tracks_true")
        missing_passes = tracks.astype(np.bool_) if len(tracks) else np.zeros(len(names), np.bool_)
        roots = np.sort(np.unique(trees, return_index=True)[1])
        columns = integers(ensemble, "nodes_featureids").astype(np.int32)
        lengths = {len(part) for part in (trees, names, modes, thresholds, missing_passes, columns)}
        if len(lengths) > 1 or (np.minimum(np.minimum(passing, failing), columns)[~is_leaf] < 0).any():
            return None
        inner = int((~is_leaf).sum())
        flat = (np.empty(inner, np.int32), np.empty(inner, np.float32), np.empty(inner, np.int64), np.empty(int(is_leaf.sum()), np.int64))
        starts = (np.zeros(len(roots) + 1, np.int64), np.zeros(len(roots), np.int64), np.zeros(len(roots) + 1, np.int64))
        most = _unfold(roots, passing, failing, columns, thresholds, missing_passes, *flat, *starts)
        if most < 0:
            return None
        keeps = flat[2] if most > _NARROW else flat[2].astype(np.int32)
        return cls(flat[0], flat[1], keeps, starts[0], starts[1], starts[2], flat[3][: starts[2][-1]], names)

    def nodes_of(self, ensemble: Attributes, leaf: str) -> NDArray[np.int64]:
        """Return the node of each weight; `leaf` is what the graph calls them: class or target."""
        return _at(integers(ensemble, f"{leaf}_treeids") << 32 | integers(ensemble, f"{leaf}_nodeids"), self.names)


def attributes_of(node: onnx.NodeProto) -> Attributes:
    """Return the attributes of a node by name."""
    return {attribute.name: attribute for attribute in node.attribute}


def integers(ensemble: Attributes, name: str) -> NDArray[np.int64]:
    """Return an attribute's whole numbers; none where it is missing."""
    return np.array(ensemble[name].ints if name in ensemble else [], np.int64)


def floats(ensemble: Attributes, name: str) -> NDArray[np.float32]:
    """Return an attribute's numbers; none where it is missing."""
    return np.array(ensemble[name].floats if name in ensemble else [], np.float32)


def text(ensemble: Attributes, name: str, default: str) -> str:
    """Return an attribute's text."""
    return ensemble[name].s.decode() if name in ensemble else default


@njit(cache=True)
def _unfold(  # pragma: no cover
    roots, passing, failing, columns, thresholds, missing_passes,
    flat_columns, flat_thresholds, flat_keeps, flat_leaves, first_node, first_failing, first_leaf,
):  # fmt: skip
    """Write trees as lists of nodes, those that let a missing value pass first; return the most leaves of a tree, or -1 when this cannot be done."""
    path, stage, begin = np.empty(MOST_LEAVES, np.int64), np.empty(MOST_LEAVES, np.int64), np.empty(MOST_LEAVES, np.int64)
    leaf_nodes, keep = np.empty(MOST_LEAVES, np.int64), np.empty(MOST_LEAVES, np.int64)
    node_count, leaf_count, most = 0, 0, 0
    for tree in range(roots.size):
        nodes, leaves, depth = 0, 0, 1
        path[0], stage[0] = roots[tree], 0
        while depth:
            node, last = path[depth - 1], depth - 1
            if passing[node] < 0:
                if leaves == MOST_LEAVES or leaf_count + leaves == flat_leaves.size:
                    return -1
                flat_leaves[leaf_count + leaves] = node
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
                    leaf_nodes[nodes], keep[nodes] = node, ~ruled_out
                    nodes += 1
                path[depth], stage[depth] = passing[node] if stage[last] == 0 else failing[node], 0
                stage[last] += 1
                depth += 1
        for passes in (True, False):
            if not passes:
                first_failing[tree] = node_count
            for i in range(nodes):
                if missing_passes[leaf_nodes[i]] == passes:
                    flat_columns[node_count], flat_thresholds[node_count] = columns[leaf_nodes[i]], thresholds[leaf_nodes[i]]
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
