"""Trees of scikit-learn as graphs: each input takes the branch it took there, on both sides of every threshold, missing ones too."""

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier

from tidemill.services.retraining.domain.fitting import fit
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.models.blocks import blocks_of_rows
from tidemill.shared.models.forest import Forest, ForestStack
from tidemill.shared.models.tree_graph import Tree, trees_to_onnx

WIDTH = 4
ORACLES = {"random_forest": RandomForestClassifier, "extra_trees": ExtraTreesClassifier, "hist_gradient_boosting": HistGradientBoostingClassifier}


def world(n: int = 1_500) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Neighbouring floats, so that a threshold between two of them is none of 32 bits."""
    rng = np.random.default_rng(0)
    steps = np.arange(60, dtype=np.int32) + np.float32(1).view(np.int32)
    matrix = steps.view(np.float32)[rng.integers(0, 60, (n, WIDTH))]
    matrix[rng.random(matrix.shape) < 0.1] = np.nan
    return matrix, (np.nan_to_num(matrix[:, 0], nan=1.0) - 1 > rng.exponential(3e-6, n)).astype(np.float64)


def parameters(family: str) -> dict[str, Any]:
    return {"family": family, "trees": 20, "leaves": 32, "rows_per_leaf": 5, "feature_share": 0.9, "learning_rate": 0.1, "ridge": 0.1}


@pytest.mark.parametrize("family", ORACLES)
def test_every_input_takes_the_branch_that_it_took_in_the_library(family: str) -> None:
    matrix, labels = world()
    if family == "hist_gradient_boosting":
        oracle = ORACLES[family](max_iter=20, max_leaf_nodes=32, min_samples_leaf=5, max_features=0.9, learning_rate=0.1, l2_regularization=0.1,
                                 early_stopping=False, random_state=3)  # fmt: skip
    else:
        oracle = ORACLES[family](20, max_leaf_nodes=32, min_samples_leaf=5, max_features=0.9, random_state=3)
    wanted = oracle.fit(matrix, labels).predict_proba(matrix)[:, 1]
    if family != "hist_gradient_boosting":
        # One row of the overall rate beside the five of a smallest leaf.
        wanted = (5 * wanted + labels.mean()) / 6
    graph = fit(matrix, labels, Binary(), parameters(family), 3).export()
    forest = Forest.from_graph(onnx.load_from_string(graph).graph)
    assert forest is not None, "served by our own kernel"
    scores = ForestStack([forest], [np.arange(WIDTH, dtype=np.int32)]).score(blocks_of_rows(matrix))[0, : len(matrix)]
    assert np.abs(scores - wanted).max() < 2e-6


def test_a_threshold_between_two_floats_parts_them() -> None:
    low, high = np.float32(1), np.nextafter(np.float32(1), np.float32(2))
    for share in (0.25, 0.5, 0.75):
        threshold = float(low) + share * (float(high) - float(low))
        ids = np.array([1, -1, -1])
        tree = Tree(
            np.zeros(3, np.int64), np.array([threshold, 0, 0]), ids, np.array([2, -1, -1]), np.zeros(3, np.bool_), np.array([[0.0], [1.0], [2.0]])
        )
        forest = Forest.from_graph(onnx.load_from_string(trees_to_onnx([tree], np.array([10.0]), "none", 1)).graph)
        assert forest is not None
        rows = np.array([[low], [high], [np.nan]], np.float32)
        assert ForestStack([forest], [np.zeros(1, np.int32)]).score(blocks_of_rows(rows))[0, :3].tolist() == [11.0, 12.0, 12.0]


def test_each_output_needs_trees() -> None:
    tree = Tree(np.zeros(1, np.int64), np.zeros(1), np.array([-1]), np.array([-1]), np.zeros(1, np.bool_), np.ones((1, 1)))
    with pytest.raises(ValueError, match="trees for each of 2 outputs"):
        trees_to_onnx([tree], np.zeros(2), "softmax", 1)
