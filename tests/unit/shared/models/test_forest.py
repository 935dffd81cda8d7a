"""The forest kernel against ONNX Runtime and LightGBM, which know nothing of it."""

from typing import Any

import lightgbm
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

from tests.models import artifact, data
from tidemill.shared.models.artifacts import Artifact, ArtifactError
from tidemill.shared.models.blocks import LANES, blocks_of_rows
from tidemill.shared.models.export import lightgbm_to_onnx
from tidemill.shared.models.forest import Forest, ForestStack
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.models.signature import Column

WIDTH = 6
POSITIONS = np.arange(WIDTH, dtype=np.int32)
MATRIX, LABEL = data(1_500, WIDTH, 3)


def booster(**changes: object) -> lightgbm.Booster:
    parameters = {"objective": "binary", "verbose": -1, "num_threads": 1, "seed": 3, "min_data_in_leaf": 5, **changes}
    return lightgbm.train(parameters, lightgbm.Dataset(MATRIX, LABEL), 30)


def onnx_runtime(graph: bytes, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # more would share the trees out and add in another order
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    scores = np.asarray(session.run([session.get_outputs()[-1].name], {"input": rows})[0])
    return scores[:, -1]


def forest_of(graph: bytes) -> Forest:
    forest = Forest.from_graph(onnx.load_from_string(graph).graph)
    assert forest is not None
    return forest


def borders(forest: Forest) -> NDArray[np.float32]:
    """Rows that stand exactly on thresholds, one float32 below and above, and at the ends of the line."""
    rng = np.random.default_rng(5)
    exact = rng.choice(forest.thresholds, (600, WIDTH))
    moved = np.nextafter(exact, rng.choice(np.array([-np.inf, np.inf], np.float32), exact.shape), dtype=np.float32)
    rows = np.concatenate([exact, moved, rng.choice(np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], np.float32), (200, WIDTH))])
    return rows.astype(np.float32)


@pytest.mark.parametrize(
    ("changes", "width"),
    [
        ({"num_leaves": 2}, 4),
        ({"num_leaves": 31}, 4),
        ({"num_leaves": 32}, 4),
        ({"num_leaves": 33}, 8),
        ({"num_leaves": 64}, 8),
        ({"num_leaves": 31, "use_missing": False}, 4),
        ({"num_leaves": 31, "zero_as_missing": True}, 4),
        ({"num_leaves": 15, "scale_pos_weight": 40.0}, 4),
    ],
)
def test_a_forest_has_the_bits_of_onnx_runtime_on_every_side_of_every_threshold(changes: dict[str, object], width: int) -> None:
    graph = lightgbm_to_onnx(booster(**changes), WIDTH)
    forest = forest_of(graph)
    assert forest.keeps.itemsize == width
    rows = np.concatenate([MATRIX, borders(forest)])
    scores = ForestStack([forest], [POSITIONS]).score(blocks_of_rows(rows))[0, : len(rows)]
    assert np.array_equal(scores.astype(np.float32), onnx_runtime(graph, rows))


def test_regressions_are_forests_too() -> None:
    target = np.nan_to_num(MATRIX[:, 0]) * 3 + 100
    model = lightgbm.train({"objective": "regression", "verbose": -1, "num_threads": 1, "seed": 3}, lightgbm.Dataset(MATRIX, target), 30)
    graph = convert_lightgbm(model, "r", [("input", FloatTensorType([None, WIDTH]))], target_opset=15).SerializeToString()
    scores = ForestStack([forest_of(graph)], [POSITIONS]).score(blocks_of_rows(MATRIX))[0, : len(MATRIX)]
    assert np.array_equal(scores.astype(np.float32), onnx_runtime(graph, MATRIX))
    assert np.abs(scores - model.predict(MATRIX)).max() < 1e-4


def test_many_forests_side_by_side_score_as_each_alone_from_their_own_columns() -> None:
    forests = [forest_of(lightgbm_to_onnx(booster(num_leaves=leaves, seed=leaves), WIDTH)) for leaves in (4, 31, 9)]
    rng = np.random.default_rng(1)
    positions = [rng.permutation(2 * WIDTH)[:WIDTH].astype(np.int32) for _ in forests]
    table = np.concatenate([MATRIX[:300], MATRIX[300:600]], axis=1)
    together = ForestStack(forests, positions).score(blocks_of_rows(table))
    for forest, rows, scores in zip(forests, positions, together, strict=True):
        alone = ForestStack([forest], [POSITIONS]).score(blocks_of_rows(np.ascontiguousarray(table[:, rows])))[0]
        assert np.array_equal(scores, alone)
    with pytest.raises(ValueError, match="expected blocks of at least"):
        ForestStack(forests, positions).score(blocks_of_rows(MATRIX[:LANES]))


def test_a_tree_of_one_leaf_and_a_forest_without_a_test() -> None:
    constant = lightgbm.train({"objective": "binary", "verbose": -1, "min_data_in_leaf": 10_000}, lightgbm.Dataset(MATRIX, LABEL), 3)
    graph = lightgbm_to_onnx(constant, WIDTH)
    scorer = _scorer(graph, constant)
    assert np.abs(scorer.score_matrix(MATRIX) - constant.predict(MATRIX)).max() < 1e-6


def _scorer(graph: bytes, model: lightgbm.Booster) -> OnnxScorer:
    columns = tuple(Column(name=f"x{i}", type="double") for i in range(WIDTH))
    made, _, _ = artifact("lightgbm", columns)
    rows = tuple(tuple(None if np.isnan(x) else float(x) for x in row) for row in MATRIX[:8])
    signature = made.signature.model_copy(update={"parity_rows": rows, "parity_scores": tuple(np.asarray(model.predict(MATRIX[:8])).tolist())})
    return OnnxScorer(Artifact(signature, graph))


def test_more_leaves_than_a_mask_has_bits_go_to_onnx_runtime() -> None:
    model = booster(num_leaves=90, min_data_in_leaf=2)
    scorer = _scorer(lightgbm_to_onnx(model, WIDTH), model)
    assert scorer.forest is None
    assert np.abs(scorer.score_matrix(MATRIX) - model.predict(MATRIX)).max() < 1e-6


def _tree(**changes: Any) -> onnx.GraphProto:
    attributes: dict[str, Any] = {
        "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0, 0, 0], "nodes_values": [1.0, 0.0, 0.0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0],
        "target_treeids": [0, 0], "target_nodeids": [1, 2], "target_ids": [0, 0], "target_weights": [5.0, 7.0], "n_targets": 1,
        "post_transform": "NONE", **changes,
    }  # fmt: skip
    node = helper.make_node("TreeEnsembleRegressor", ["input"], ["score"], domain="ai.onnx.ml", **attributes)
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in ("input", "score")]
    return helper.make_graph([node], "g", value[:1], value[1:])


def test_a_graph_by_hand() -> None:
    forest = Forest.from_graph(_tree())
    assert forest is not None
    scores = ForestStack([forest], [np.array([0], np.int32)]).score(blocks_of_rows(np.array([[0.5], [1.0], [1.5], [np.nan]], np.float32)))
    assert scores[0, :4].tolist() == [5.0, 5.0, 7.0, 7.0]


@pytest.mark.parametrize(
    "changes",
    [
        {"nodes_modes": ["BRANCH_GT", "LEAF", "LEAF"]},
        {"post_transform": "SOFTMAX"},
        {"aggregate_function": "MAX"},
        {"nodes_truenodeids": [9, 0, 0]},
        {"nodes_truenodeids": [0, 0, 0]},
        {"target_nodeids": [1, 1]},
        {"target_ids": [0, 1], "n_targets": 2},
    ],
)
def test_what_the_kernel_does_not_do_is_left_to_onnx_runtime(changes: dict[str, object]) -> None:
    assert Forest.from_graph(_tree(**changes)) is None


def test_a_graph_that_reads_beyond_its_signature_is_refused() -> None:
    graph = lightgbm_to_onnx(booster(), WIDTH)
    made, _, _ = artifact("lightgbm", tuple(Column(name=f"x{i}", type="double") for i in range(2)))
    with pytest.raises(ArtifactError, match=r"expected a graph over the 2 columns of its signature, found column 5"):
        OnnxScorer(Artifact(made.signature, graph))
