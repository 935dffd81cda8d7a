"""Serving of error models: what scikit-learn says, in any batching, and artifacts that cannot be trusted are refused."""

from base64 import b64encode
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor

from tests.error_models import LARGE, SMALL, stump
from tests.linear_models import linear_artifact
from tidemill.shared.models.artifacts import Artifact, ArtifactError
from tidemill.shared.models.blocks import blocks_of_rows
from tidemill.shared.models.error_forest import ErrorForest
from tidemill.shared.models.error_model import ErrorModel
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.models.tree_graph import Tree, trees_to_onnx

WEIGHTS = np.array([[1.0], [-2.0], [0.5]])
SCALE = 40.0


def forest(width: int = 3) -> tuple[ErrorForest, RandomForestRegressor]:
    """Errors by inputs and score, some of the inputs missing."""
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(2_000, width + 1)).astype(np.float32)
    inputs[generator.random(inputs.shape) < 0.1] = np.nan
    sizes = np.abs(np.nan_to_num(inputs[:, :1]) + np.nan_to_num(inputs[:, -1:]))
    made = RandomForestRegressor(12, max_leaf_nodes=16, random_state=0).fit(inputs, np.hstack([sizes, sizes**2]))
    graph = trees_to_onnx([_tree(one.tree_) for one in made.estimators_], np.zeros(2), "none", width + 1)
    return ErrorForest(ErrorModel(graph=b64encode(graph).decode(), scale=SCALE, parity=()), width), made


def _tree(tree: Any) -> Tree:
    left, right = tree.children_left.astype(np.int64), tree.children_right.astype(np.int64)
    missing = tree.missing_go_to_left.astype(np.bool_)
    return Tree(tree.feature.astype(np.int64), tree.threshold, left, right, missing, tree.value[:, :, 0] / 12)


def fresh(rows: int, width: int = 3) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    generator = np.random.default_rng(1)
    matrix = generator.normal(size=(rows, width)).astype(np.float32)
    matrix[generator.random(matrix.shape) < 0.2] = np.nan
    return matrix, generator.normal(size=rows)


def test_it_expects_what_the_library_expects_wherever_the_columns_lie() -> None:
    served, library = forest()
    matrix, scores = fresh(333)
    wanted = library.predict(np.column_stack([matrix, scores.astype(np.float32)])) * [SCALE, SCALE**2]
    other = np.zeros((len(matrix), 6), np.float32)
    positions = np.array([4, 0, 2], np.int32)
    other[:, positions] = matrix
    for table, places in ((matrix, np.arange(3, dtype=np.int32)), (other, positions)):
        assert np.allclose(served.estimate(blocks_of_rows(table), places, scores), wanted, rtol=1e-5)


def test_one_row_has_what_it_has_among_others_and_no_score_has_no_error() -> None:
    served, _ = forest()
    matrix, scores = fresh(70)
    scores[7], scores[8] = np.nan, np.inf
    places = np.arange(3, dtype=np.int32)
    together = served.estimate(blocks_of_rows(matrix), places, scores)
    alone = [served.estimate(blocks_of_rows(matrix[i : i + 1]), places, scores[i : i + 1]) for i in range(70)]
    assert together.tobytes() == np.concatenate(alone).tobytes()
    assert np.flatnonzero(np.isnan(together).any(axis=1)).tolist() == [7, 8]
    assert np.isfinite(served.estimate(blocks_of_rows(matrix[:1]), places, np.array([1e300]))).all(), "too large a score is missing, as an input is"


def test_a_model_without_one_says_nothing_and_a_file_of_before_is_read() -> None:
    made = linear_artifact("regression", WEIGHTS)
    old = made.signature.to_json().replace(b'"errors":null,', b"")
    assert b"errors" not in old
    again = Artifact.from_bytes(b"TMA1" + len(old).to_bytes(4, "big") + old + made.onnx)
    assert again.signature.to_json() == made.signature.to_json() and OnnxScorer(again).errors is None


def parity() -> tuple[float, ...]:
    scores = linear_artifact("regression", WEIGHTS).signature.parity_scores
    return tuple(float(one) for one in scores if isinstance(one, float))


def test_an_artifact_is_served_if_its_parity_rows_have_the_errors_that_it_says() -> None:
    good = stump(0.0, 3, parity())
    scorer = OnnxScorer(Artifact.from_bytes(linear_artifact("regression", WEIGHTS, errors=good).to_bytes()))
    assert scorer.errors is not None
    matrix, _ = fresh(20)
    scores = scorer.score_matrix(np.nan_to_num(matrix))
    errors = scorer.errors.estimate(blocks_of_rows(np.nan_to_num(matrix)), np.arange(3, dtype=np.int32), scores)
    assert errors.tolist() == [list(SMALL if one <= 0 else LARGE) for one in scores]
    wrong = good.model_copy(update={"parity": ((0.6, 0.5), *good.parity[1:])})
    with pytest.raises(ArtifactError, match="expected errors of the parity rows differ"):
        OnnxScorer(linear_artifact("regression", WEIGHTS, errors=wrong))


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (linear_artifact("regression", WEIGHTS).onnx, "a forest with two outputs"),
        (b"no graph", "does not load"),
    ],
    ids=["linear", "junk"],
)
def test_what_is_no_forest_of_two_outputs_is_refused(graph: bytes, words: str) -> None:
    errors = stump(0.0, 3, parity()).model_copy(update={"graph": b64encode(graph).decode()})
    with pytest.raises(ArtifactError, match=words):
        OnnxScorer(linear_artifact("regression", WEIGHTS, errors=errors))


def test_one_over_other_columns_of_another_kind_or_with_other_parity_rows_is_refused() -> None:
    with pytest.raises(ArtifactError, match="over 3 columns and the score, found column 7"):
        OnnxScorer(linear_artifact("regression", WEIGHTS, errors=stump(0.0, 7, parity())))
    with pytest.raises(ValueError, match="as many parity rows"):
        linear_artifact("regression", WEIGHTS, errors=stump(0.0, 3, parity()[:2]))
    with pytest.raises(ValueError, match="of kind binary"):
        linear_artifact("binary", WEIGHTS, errors=stump(0.0, 3, parity()))
    with pytest.raises(ValueError, match="unit of errors above 0"):
        ErrorModel(graph="", scale=0.0, parity=())
