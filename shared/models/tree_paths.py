"""A forest as the paths to its leaves."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.models.class_forest import ClassForest
from tidemill.shared.models.forest import Forest


@dataclass(frozen=True, slots=True)
class TreePaths:
    """Every leaf of a forest with the tests on the way to it.

    Attributes
    ----------
    first : int64, shape (leaves + 1,)
        Where the tests of each leaf begin.
    columns, thresholds, missing_passes, passes : shape (tests,)
        A test is ``value <= threshold``; a missing value passes it or not; `passes` says which answer leads to the leaf.
    values : float64, shape (leaves,)
    """

    first: NDArray[np.int64]
    columns: NDArray[np.int32]
    thresholds: NDArray[np.float32]
    missing_passes: NDArray[np.bool_]
    passes: NDArray[np.bool_]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, forest: Forest) -> "TreePaths":
        """Unfold a forest of one output."""
        unfolded = _Unfolded.of(forest)
        return unfolded.paths(np.arange(len(unfolded.trees)), forest.leaves[forest.first_leaf[unfolded.trees] + unfolded.places])

    @classmethod
    def of_classes(cls, forest: ClassForest) -> list["TreePaths"]:
        """Unfold a forest of several classes, for each class the trees that have something to say of it."""
        unfolded, paths = _Unfolded.of(forest.trees), []
        width, output = forest.widths[unfolded.trees], forest.first_output[unfolded.trees]
        begin = forest.first_leaf[unfolded.trees] + width * unfolded.places
        for number in range(forest.outputs):
            own = np.flatnonzero((output <= number) & (number < output + width))
            paths.append(unfolded.paths(own, forest.leaves[begin[own] + number - output[own]]))
        return paths


class _Trees(Protocol):
    """Inner nodes, and how many leaves each tree has (`Forest`, `FlatTrees`)."""

    @property
    def columns(self) -> NDArray[np.int32]: ...

    @property
    def thresholds(self) -> NDArray[np.float32]: ...

    @property
    def keeps(self) -> NDArray[np.int32] | NDArray[np.int64]: ...

    @property
    def first_node(self) -> NDArray[np.int64]: ...

    @property
    def first_failing(self) -> NDArray[np.int64]: ...

    @property
    def first_leaf(self) -> NDArray[np.int64]: ...


@dataclass(frozen=True, slots=True)
class _Unfolded:
    """Leaves with the nodes on the way to them.

    Attributes
    ----------
    trees, places : shape (leaves,)
        A leaf's tree, and its place in it from the left.
    """

    forest: _Trees
    trees: NDArray[np.int64]
    places: NDArray[np.int64]
    tests: list[list[tuple[int, bool]]]

    @classmethod
    def of(cls, forest: _Trees) -> "_Unfolded":
        """Unfold trees; a node says which leaves lie left of it, which is enough: a subtree's root has most leaves on its left."""
        trees, places, tests = [], [], []
        for tree in range(len(forest.first_failing)):
            begin, end = int(forest.first_node[tree]), int(forest.first_node[tree + 1])
            roots: dict[int, list[tuple[int, int]]] = {}
            for node in range(begin, end):
                left = ~int(forest.keeps[node]) & (2 ** (8 * forest.keeps.itemsize) - 1)
                roots.setdefault((left & -left).bit_length() - 1, []).append((left.bit_length(), node))
            spans: list[tuple[int, int, list[tuple[int, bool]]]] = [(0, int(forest.first_leaf[tree + 1] - forest.first_leaf[tree]), [])]
            while spans:
                low, high, path = spans.pop()
                inside = [pair for pair in roots.get(low, []) if pair[0] < high]
                if not inside:
                    trees.append(tree)
                    places.append(low)
                    tests.append(path)
                    continue
                middle, node = max(inside)
                spans += [(middle, high, [*path, (node, False)]), (low, middle, [*path, (node, True)])]
        return cls(forest, np.array(trees, np.int64), np.array(places, np.int64), tests)

    def paths(self, chosen: NDArray[np.int64], values: NDArray[np.float32]) -> TreePaths:
        """Return some of the leaves, with what each adds."""
        forest, own = self.forest, [self.tests[leaf] for leaf in chosen.tolist()]
        nodes = np.array([node for path in own for node, _ in path], np.int64)
        failing = np.repeat(forest.first_failing, np.diff(forest.first_node))
        return TreePaths(
            np.cumsum([0, *map(len, own)]).astype(np.int64),
            forest.columns[nodes],
            forest.thresholds[nodes],
            np.asarray(nodes < failing[nodes], np.bool_) if len(nodes) else np.empty(0, np.bool_),
            np.array([passes for path in own for _, passes in path], np.bool_),
            values.astype(np.float64),
        )
