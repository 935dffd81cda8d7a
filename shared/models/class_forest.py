"""Forests of several classes as plain arrays, read from the ONNX graph that is their served form."""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from tidemill.shared.models.blocks import Blocks
from tidemill.shared.models.flat_trees import Attributes, FlatTrees, attributes_of, floats, integers, text
from tidemill.shared.models.forest import ensemble_of
from tidemill.shared.models.forest_kernel import score_class_forest


@dataclass(frozen=True, slots=True)
class ClassForest:
    """A sum of trees for each class, and what makes probabilities of them; the arrays are those of `score_class_forest`.

    Trees of boosting have one class each, those of random forests a share of every class in each leaf; each is run through once.

    Attributes
    ----------
    trees
        Inner nodes.
    first_leaf, leaves, first_output, widths
        What the leaves add, and to which classes.
    base : shape (classes,)
        What is added to the sums.
    softmax
        Whether the sums are logarithms of what probabilities are proportional to; else they are the probabilities.
    """

    trees: FlatTrees
    first_leaf: NDArray[np.int64]
    leaves: NDArray[np.float32]
    first_output: NDArray[np.int64]
    widths: NDArray[np.int64]
    base: NDArray[np.float32]
    softmax: bool

    @classmethod
    def from_graph(cls, graph: onnx.GraphProto) -> "ClassForest | None":
        """Read a graph that is one tree ensemble with two or more outputs, and at most a softmax; None for any other, and for more than 64 leaves."""
        node_and_softmax = ensemble_of(graph)
        if node_and_softmax is None:
            return None
        node, softmax = node_and_softmax
        ensemble = attributes_of(node)
        transform = text(ensemble, "post_transform", "NONE")
        if node.op_type == "TreeEnsembleClassifier":
            outputs = len(integers(ensemble, "classlabels_int64s"))
            if transform != "SOFTMAX" or softmax or integers(ensemble, "classlabels_int64s").tolist() != list(range(outputs)):
                return None
            return _flatten(ensemble, "class", outputs, softmax=True)
        if transform != "NONE" or text(ensemble, "aggregate_function", "SUM") != "SUM":
            return None
        return _flatten(ensemble, "target", int(ensemble["n_targets"].i) if "n_targets" in ensemble else 1, softmax)

    @property
    def outputs(self) -> int:
        """Number of classes."""
        return len(self.base)

    def score(self, blocks: Blocks, columns: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return the scores of each padded row, shape (padded rows, classes).

        Parameters
        ----------
        columns : shape (inner nodes,)
            Which column of the blocks each node tests.
        """
        if blocks.shape[1] <= (most := int(columns.max(initial=-1))):
            raise ValueError(f"expected blocks of at least {most + 1} columns, found {blocks.shape[1]}")
        trees, scores = self.trees, np.empty((blocks.shape[0] * blocks.shape[2], self.outputs), np.float64)
        score_class_forest(
            blocks, self.base, self.softmax, trees.first_node, trees.first_failing, columns, trees.thresholds, trees.keeps,
            self.first_leaf, self.leaves, self.first_output, self.widths, scores,
        )  # fmt: skip
        return scores


def _flatten(ensemble: Attributes, leaf: str, outputs: int, softmax: bool) -> ClassForest | None:
    trees = FlatTrees.of(ensemble)
    if trees is None or outputs < 2:
        return None
    nodes, ids, weights = trees.nodes_of(ensemble, leaf), integers(ensemble, f"{leaf}_ids"), floats(ensemble, f"{leaf}_weights")
    order = np.lexsort((ids, nodes))
    count = np.bincount(nodes[nodes >= 0], minlength=len(trees.names))
    if (nodes < 0).any() or len(nodes) != len(weights) or set(ids.tolist()) != set(range(outputs)) or count[trees.leaf_nodes].sum() != len(weights):
        return None
    tree = np.repeat(np.arange(len(trees.first_failing)), np.diff(trees.first_leaf))
    own, start = count[trees.leaf_nodes], (np.cumsum(count) - count)[trees.leaf_nodes]
    widths, first_output = own[trees.first_leaf[:-1]], ids[order][start[trees.first_leaf[:-1]]]
    # Every leaf of a tree has the same classes, one after the other.
    within = np.arange(len(weights)) - np.repeat(np.cumsum(own) - own, own)
    places = np.repeat(start, own) + within
    if not np.array_equal(own, widths[tree]) or not np.array_equal(ids[order][places], np.repeat(first_output[tree], own) + within):
        return None
    sizes = np.diff(trees.first_leaf) * widths
    base = floats(ensemble, "base_values") if "base_values" in ensemble else np.zeros(outputs, np.float32)
    if len(base) != outputs:
        return None
    return ClassForest(trees, np.cumsum(sizes) - sizes, weights[order][places], first_output, widths, base, softmax)
