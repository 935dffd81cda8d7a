"""A forest as the paths to its leaves."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
        """Unfold a forest; a node says which leaves lie left of it, which is enough: a subtree's root has most leaves on its left."""
        first, tests, values = [0], [], []
        for tree in range(len(forest.first_failing)):
            begin, end = int(forest.first_node[tree]), int(forest.first_node[tree + 1])
            first_leaf = int(forest.first_leaf[tree])
            roots: dict[int, list[tuple[int, int]]] = {}
            for node in range(begin, end):
                left = ~int(forest.keeps[node]) & (2 ** (8 * forest.keeps.itemsize) - 1)
                roots.setdefault((left & -left).bit_length() - 1, []).append((left.bit_length(), node))
            spans: list[tuple[int, int, list[tuple[int, bool]]]] = [(0, int(forest.first_leaf[tree + 1]) - first_leaf, [])]
            while spans:
                low, high, path = spans.pop()
                inside = [pair for pair in roots.get(low, []) if pair[0] < high]
                if not inside:
                    tests += path
                    first.append(len(tests))
                    values.append(float(forest.leaves[first_leaf + low]))
                    continue
                middle, node = max(inside)
                spans += [(middle, high, [*path, (node, False)]), (low, middle, [*path, (node, True)])]
        nodes = np.array([node for node, _ in tests], np.int64)
        failing = np.repeat(forest.first_failing, np.diff(forest.first_node))
        return cls(
            np.array(first, np.int64),
            forest.columns[nodes],
            forest.thresholds[nodes],
            np.asarray(nodes < failing[nodes], np.bool_) if len(nodes) else np.empty(0, np.bool_),
            np.array([passes for _, passes in tests], np.bool_),
            np.array(values, np.float64),
        )
