"""An error model without training: one tree that tests the served score."""

from base64 import b64encode
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.models.error_model import ErrorModel
from tidemill.shared.models.tree_graph import Tree, trees_to_onnx

SMALL, LARGE = (0.5, 0.375), (2.0, 6.0)
"""Expected absolute and squared error of scores up to the bound, and of those beyond."""


def stump(bound: float, columns: int, parity_scores: Sequence[float]) -> ErrorModel:
    """Return the errors of a model of so many columns."""
    values = np.array([(0.0, 0.0), SMALL, LARGE])
    left, right = np.array([1, -1, -1]), np.array([2, -1, -1])
    tree = Tree(np.array([columns, 0, 0]), np.array([bound, 0.0, 0.0]), left, right, np.zeros(3, np.bool_), values)
    graph = trees_to_onnx([tree], np.zeros(2), "none", columns + 1)
    rows = [(float(one), float(other)) for one, other in stump_errors(bound, np.array(parity_scores))]
    return ErrorModel(graph=b64encode(graph).decode(), scale=1.0, parity=tuple(rows))


def stump_errors(bound: float, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what it expects of scores, shape (n, 2)."""
    return np.where((scores.astype(np.float32) <= np.float32(bound))[:, None], SMALL, LARGE)
