"""Forests of several classes on our own kernel, against ONNX Runtime and the libraries that grew them."""

from typing import Any

import lightgbm
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tests.models import data
from tidemill.services.retraining.domain.fitting import fit
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.models.artifacts import Artifact, ArtifactError
from tidemill.shared.models.blocks import LANES, blocks_of_rows
from tidemill.shared.models.class_forest import ClassForest
from tidemill.shared.models.export import lightgbm_to_onnx
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.models.signature import Column, Signature

WIDTH = 5
POSITIONS = np.arange(WIDTH, dtype=np.int32)
KIND = Multiclass(("calm", "busy", "late"))
MATRIX = data(700, WIDTH, 4)[0]
LABEL = np.digitize(np.nan_to_num(MATRIX[:, 0]) + np.random.default_rng(1).normal(0, 0.5, len(MATRIX)), [-0.4, 0.4]).astype(np.float64)


def graph_of(family: str, kind: Multiclass = KIND, leaves: int = 20) -> bytes:
    parameters = {"family": family, "trees": 20, "leaves": leaves, "rows_per_leaf": 3, "feature_share": 0.9, "learning_rate": 0.1, "ridge": 0.1}
    return fit(MATRIX, np.minimum(LABEL, kind.width - 1), kind, parameters, 3).export()


def onnx_runtime(graph: bytes, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([session.get_outputs()[-1].name], {"input": rows})[0], np.float64)


def forest_of(graph: bytes) -> ClassForest:
    forest = ClassForest.from_graph(onnx.load_from_string(graph).graph)
    assert forest is not None, "served by our own kernel"
    return forest


def borders(forest: ClassForest) -> NDArray[np.float32]:
    """Rows on thresholds, one float32 beside them, and at the ends of the line."""
    rng = np.random.default_rng(5)
    exact = rng.choice(forest.trees.thresholds, (300, WIDTH))
    moved = np.nextafter(exact, rng.choice(np.array([-np.inf, np.inf], np.float32), exact.shape), dtype=np.float32)
    ends = rng.choice(np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], np.float32), (100, WIDTH))
    return np.concatenate([MATRIX, exact, moved, ends]).astype(np.float32)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("family", ["lightgbm", "hist_gradient_boosting", "random_forest", "extra_trees"])
def test_every_row_gets_what_onnx_runtime_gives(family: str, classes: int) -> None:
    graph = graph_of(family, Multiclass(KIND.classes[:classes]))
    forest = forest_of(graph)
    rows = borders(forest)
    scores, wanted = forest.score(blocks_of_rows(rows), forest.trees.columns)[: len(rows)], onnx_runtime(graph, rows)
    assert scores.shape == wanted.shape == (len(rows), classes)
    if forest.softmax:
        assert np.abs(scores - wanted).max() < 5e-7 and np.abs(scores.sum(axis=1) - 1).max() < 1e-12
    else:
        assert np.array_equal(scores.astype(np.float32), wanted.astype(np.float32)), "sums of shares, in the order of the trees"


def scorer_of(graph: bytes, wanted: NDArray[np.float64]) -> OnnxScorer:
    rows = tuple(tuple(None if np.isnan(x) else float(x) for x in row) for row in MATRIX[:8])
    signature = Signature(
        model="m", version="v1", family="lightgbm", kind="multiclass", classes=KIND.classes, threshold=0.5, parity_tolerance=1e-6,
        columns=tuple(Column(name=f"x{i}", type="double") for i in range(WIDTH)), parity_rows=rows,
        parity_scores=tuple(map(tuple, wanted[:8].tolist())),
    )  # fmt: skip
    return OnnxScorer(Artifact(signature, graph))


def test_a_loaded_model_scores_from_wherever_its_columns_lie_and_in_any_batch() -> None:
    model = lightgbm.train(
        {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1, "seed": 3, "num_leaves": 15}, lightgbm.Dataset(MATRIX, LABEL), 15
    )
    wanted = np.asarray(model.predict(MATRIX))
    scorer = scorer_of(lightgbm_to_onnx(model, WIDTH), wanted)
    scores = scorer.score_matrix(MATRIX)
    assert np.abs(scores - wanted).max() < 1e-6
    for batch in (1, LANES - 1, 100):
        parts = [scorer.score_matrix(MATRIX[begin : begin + batch]) for begin in range(0, 200, batch)]
        assert np.array_equal(np.concatenate(parts)[:200], scores[:200]), batch
    positions = np.array([7, 0, 3, 9, 1], np.int32)
    table = np.full((len(MATRIX), 10), np.nan, np.float32)
    table[:, positions] = MATRIX
    for _ in range(2):
        assert np.array_equal(scorer.score_blocks(blocks_of_rows(table), positions)[: len(MATRIX)], scores)
        assert np.array_equal(scorer.score_matrix(MATRIX), scores), "and from its own place again"
    with pytest.raises(ValueError, match="expected blocks of at least"):
        scorer.score_blocks(blocks_of_rows(MATRIX), positions)


def test_more_leaves_than_a_mask_has_bits_go_to_onnx_runtime() -> None:
    graph = graph_of("random_forest", leaves=90)
    assert ClassForest.from_graph(onnx.load_from_string(graph).graph) is None
    wanted = onnx_runtime(graph, MATRIX)
    assert np.abs(scorer_of(graph, wanted).score_matrix(MATRIX) - wanted).max() < 1e-6


def test_a_graph_of_other_classes_than_the_signature_is_refused() -> None:
    graph = graph_of("lightgbm", Multiclass(("a", "b")))
    with pytest.raises(ArtifactError, match="expected"):
        scorer_of(graph, onnx_runtime(graph, MATRIX))


def _graph(axis: int = 1, **changes: Any) -> onnx.GraphProto:
    """One tree of two leaves, each with a number for both classes."""
    attributes: dict[str, Any] = {
        "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0, 0, 0], "nodes_values": [1.0, 0.0, 0.0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0],
        "target_treeids": [0, 0, 0, 0], "target_nodeids": [2, 1, 2, 1], "target_ids": [1, 0, 0, 1], "target_weights": [4.0, 1.0, 3.0, 2.0],
        "n_targets": 2, "post_transform": "NONE", **changes,
    }  # fmt: skip
    nodes = [
        helper.make_node("TreeEnsembleRegressor", ["input"], ["sums"], domain="ai.onnx.ml", **attributes),
        helper.make_node("Softmax", ["sums"], ["scores"], axis=axis),
    ]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in ("input", "scores")]
    return helper.make_graph(nodes, "g", value[:1], value[1:])


def test_a_graph_by_hand() -> None:
    forest = ClassForest.from_graph(_graph(base_values=[0.5, 0.0]))
    assert forest is not None
    scored = forest.score(blocks_of_rows(np.array([[1.0], [2.0]], np.float32)), forest.trees.columns)[:2]
    raw = np.exp([[1.5, 2.0], [3.5, 4.0]])
    assert scored == pytest.approx(raw / raw.sum(axis=1, keepdims=True))


@pytest.mark.parametrize(
    "changes",
    [
        {"axis": 0},
        {"target_ids": [1, 0, 1, 0]},
        {"target_ids": [1, 0, 0, 2]},
        {"target_nodeids": [2, 1, 2, 9]},
        {"base_values": [1.0]},
        {"aggregate_function": "MAX"},
        {"post_transform": "LOGISTIC"},
        {"n_targets": 3},
    ],
)
def test_what_the_kernel_cannot_do_is_left_to_onnx_runtime(changes: dict[str, Any]) -> None:
    assert ClassForest.from_graph(_graph(**changes)) is None
