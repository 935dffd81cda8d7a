"""Models whose answer is a sum that can be taken apart: what each column adds, exactly, before link and calibration."""

import math
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import onnx
from numba import njit
from numpy.typing import NDArray
from onnx import numpy_helper

from tidemill.shared.models.blocks import blocks_of_rows
from tidemill.shared.models.class_forest import ClassForest
from tidemill.shared.models.forest import Forest
from tidemill.shared.models.leaf_shares import LeafShares
from tidemill.shared.models.tree_paths import TreePaths

Matrix = NDArray[np.float32]
Float64 = NDArray[np.float64]
Link = Literal["logit", "softmax", "identity"]
_LINEAR = ["IsNaN", "Where", "Sub", "Div", "Gemm"]
_LINKS: dict[tuple[str, ...], Link] = {(): "identity", ("Sigmoid",): "logit", ("Softmax",): "softmax"}


class AdditiveParts(Protocol):
    """A model as sums of what its columns add."""

    @property
    def method(self) -> Literal["tree", "linear"]:
        """How they are found."""
        ...

    @property
    def link(self) -> Link:
        """What makes the graph's scores of the sums."""
        ...

    def parts(self, matrix: Matrix, output: int) -> tuple[float, Float64]:
        """Return the mean of a sum over the stored rows, and what each column of each row adds to it, shape of the matrix."""
        ...

    def sums(self, matrix: Matrix) -> Float64:
        """Return all of the graph's sums, shape (rows, outputs)."""
        ...


def parts_of(graph: onnx.GraphProto, forest: Forest | None, classes: int, background: Matrix) -> AdditiveParts | None:
    """Return a graph's parts; None of one that has none.

    Parameters
    ----------
    forest
        The graph as a forest of one output, if it is one.
    classes
        Of the model; 0 unless it is a multiclass one.
    background : shape (m, columns)
        Rows that others are compared with.
    """
    if forest is not None:
        return TreeParts.of_forest(forest, background)
    trees = ClassForest.from_graph(graph) if classes else None
    if trees is not None and trees.outputs == classes:
        return TreeParts.of_classes(trees, background)
    return LinearParts.of(graph, background)


@dataclass(frozen=True, slots=True)
class TreeParts:
    """A forest: Shapley values of its trees, interventional (`LeafShares`), for each output."""

    link: Link
    shares: tuple[LeafShares, ...]
    bases: tuple[float, ...]
    classes: ClassForest | None = None
    method: Literal["tree"] = "tree"

    @classmethod
    def of_forest(cls, forest: Forest, background: Matrix) -> "TreeParts":
        """Take a forest of one output apart."""
        return cls("logit" if forest.logistic else "identity", (LeafShares.of(TreePaths.of(forest), background),), (forest.base,))

    @classmethod
    def of_classes(cls, forest: ClassForest, background: Matrix) -> "TreeParts":
        """Take a forest of several classes apart, class by class."""
        shares = tuple(LeafShares.of(paths, background) for paths in TreePaths.of_classes(forest))
        bases = tuple(forest.base.astype(np.float64).tolist())
        return cls("softmax" if forest.softmax else "identity", shares, bases, replace(forest, softmax=False))

    def parts(self, matrix: Matrix, output: int) -> tuple[float, Float64]:
        """See `AdditiveParts`."""
        shares = self.shares[output]
        return self.bases[output] + shares.base, shares.contributions(matrix)

    def sums(self, matrix: Matrix) -> Float64:
        """See `AdditiveParts`; for several classes the scoring kernel's own."""
        if self.classes is not None:
            return self.classes.score(blocks_of_rows(matrix), self.classes.trees.columns)[: len(matrix)]
        base, contributions = self.parts(matrix, 0)
        return (base + row_sums(contributions))[:, None]


@dataclass(frozen=True, slots=True)
class LinearParts:
    """A linear model on standardised inputs, where a missing value counts as the mean.

    Attributes
    ----------
    slopes : shape (outputs, columns)
        On the raw inputs.
    averages : shape (outputs, columns)
        What the stored rows' columns add, in the mean.
    """

    link: Link
    means: Float64
    slopes: Float64
    bias: Float64
    averages: Float64
    method: Literal["linear"] = "linear"

    @classmethod
    def of(cls, graph: onnx.GraphProto, background: Matrix) -> "LinearParts | None":
        """Read a graph; None unless it is the linear one of `linear_to_onnx`."""
        operators = [node.op_type for node in graph.node]
        constants = {one.name: numpy_helper.to_array(one).astype(np.float64) for one in graph.initializer}
        link = _LINKS.get(tuple(operators[5:]))
        if operators[:5] != _LINEAR or link is None or not {"means", "scales", "weights", "bias"} <= set(constants):
            return None
        means, scales, bias = (constants[name].ravel() for name in ("means", "scales", "bias"))
        if constants["weights"].shape != (len(means), len(bias)):
            return None
        slopes = constants["weights"].T / scales
        centred = np.where(np.isnan(background), 0.0, background.astype(np.float64) - means)
        return cls(link, means, slopes, bias, np.array([(centred * slope).mean(axis=0) for slope in slopes]))

    def parts(self, matrix: Matrix, output: int) -> tuple[float, Float64]:
        """See `AdditiveParts`."""
        own = np.where(np.isnan(matrix), 0.0, (matrix.astype(np.float64) - self.means) * self.slopes[output])
        return float(self.bias[output]) + math.fsum(self.averages[output].tolist()), own - self.averages[output]

    def sums(self, matrix: Matrix) -> Float64:
        """See `AdditiveParts`."""
        parts = [self.parts(matrix, output) for output in range(len(self.bias))]
        return np.stack([base + row_sums(contributions) for base, contributions in parts], axis=1)


def row_sums(matrix: Float64) -> Float64:
    """Return the sum of each row, added from left to right: no bit of it depends on the other rows.

    >>> row_sums(np.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [3.0, 7.0]
    """
    sums: Float64 = _row_sums(matrix)
    return sums


@njit(cache=True, nogil=True)
def _row_sums(matrix):  # pragma: no cover
    sums = np.zeros(matrix.shape[0], np.float64)
    for row in range(matrix.shape[0]):
        for column in range(matrix.shape[1]):
            sums[row] += matrix[row, column]
    return sums
