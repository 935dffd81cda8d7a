"""A regression's error model: what it expects comes true, as it does for an error model of scikit-learn's own."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression

from tidemill.services.retraining.domain.examples import DAY_MS, Examples, Split
from tidemill.services.retraining.domain.expected_errors import HeldOut, fit_errors, has_enough, held_out_errors, with_answers
from tidemill.services.retraining.domain.training import fit_at
from tidemill.shared.application.training_policy import Training
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.regression import Regression
from tidemill.shared.models.artifacts import Artifact
from tidemill.shared.models.blocks import blocks_of_rows
from tidemill.shared.models.onnx_scorer import OnnxScorer

Float64 = NDArray[np.float64]
Matrix = NDArray[np.float32]
RIDGE = {"family": "ridge_regression", "window_days": 0, "penalty": 0.1}
END = 100 * DAY_MS


def world(rows: int, seed: int, shift: float = 0.0) -> tuple[Matrix, Float64]:
    """Lines with noise whose size grows with the second column: by a shift of it requests become harder, and nothing else changes."""
    generator = np.random.default_rng(seed)
    matrix = generator.uniform(0, 1, (rows, 3)).astype(np.float32)
    matrix[:, 1] = np.clip(matrix[:, 1] + shift, 0, 1)
    return matrix, 1_000 + 300 * matrix[:, 0] + (10 + 90 * matrix[:, 1]) * generator.normal(size=rows)


def examples(matrix: Matrix, labels: Float64) -> Examples:
    at = np.linspace(0, END - DAY_MS, len(labels)).astype(np.int64)
    features = pa.RecordBatch.from_arrays([pa.array(column, pa.float64()) for column in matrix.T.astype(np.float64)], names=["a", "b", "c"])
    return Examples(features, at, at, labels)


def fitted(rows: int = 4_000, kind: Any = None, labels: Float64 | None = None) -> Artifact:
    matrix, own = world(rows, 0)
    kind = kind or Regression()
    parameters = RIDGE if kind.name == "regression" else {**RIDGE, "family": "logistic_regression", "strength": 1.0}
    split = Split(0, END, END, END, END, END)
    return fit_at(examples(matrix, own if labels is None else labels), split, END, parameters, 0.5, "m", "v", Training(), kind)


def expected_of(artifact: Artifact, matrix: Matrix) -> tuple[Float64, Float64]:
    """Return scores and expected errors as they are served, by an artifact that went through its file."""
    scorer = OnnxScorer(Artifact.from_bytes(artifact.to_bytes()))
    scores = scorer.score_matrix(matrix)
    assert scorer.errors is not None
    return scores, scorer.errors.estimate(blocks_of_rows(matrix), np.arange(3, dtype=np.int32), scores)


@pytest.mark.parametrize("shift", [0.0, 0.4, -0.4])
def test_the_expected_error_comes_true_where_requests_become_harder_or_easier(shift: float) -> None:
    fresh, labels = world(20_000, 1, shift)
    scores, expected = expected_of(fitted(), fresh)
    absolute, squared = expected.mean(axis=0)
    assert absolute == pytest.approx(np.abs(scores - labels).mean(), rel=0.08)
    assert np.sqrt(squared) == pytest.approx(np.sqrt(((scores - labels) ** 2).mean()), rel=0.08)
    assert (expected[:, 1] >= expected[:, 0] ** 2 * (1 - 1e-5)).all(), "no variance is negative"
    truth = (10 + 90 * fresh[:, 1]) * np.sqrt(2 / np.pi)
    assert np.corrcoef(expected[:, 0], truth)[0, 1] > (0.9 if not shift else 0.8)


def test_an_independent_error_model_estimates_the_same() -> None:
    """The method by itself: a line by scikit-learn, the errors of the last two fifths, boosted trees over inputs and answer."""
    matrix, labels = world(4_000, 0)
    errors, inputs = [], []
    for begin, end in ((2_400, 3_200), (3_200, 4_000)):
        answer = LinearRegression().fit(matrix[:begin], labels[:begin]).predict(matrix[begin:end])
        errors.append(answer - labels[begin:end])
        inputs.append(np.column_stack([matrix[begin:end], answer]))
    nanny = HistGradientBoostingRegressor(max_iter=60, learning_rate=0.05, max_leaf_nodes=8).fit(np.vstack(inputs), np.abs(np.concatenate(errors)))
    artifact, line = fitted(), LinearRegression().fit(matrix, labels)
    for shift in (0.0, 0.4, -0.4):
        fresh, _ = world(20_000, 2, shift)
        theirs = nanny.predict(np.column_stack([fresh, line.predict(fresh)])).mean()
        assert expected_of(artifact, fresh)[1][:, 0].mean() == pytest.approx(theirs, rel=0.08), shift


def test_held_out_rows_are_answered_by_models_that_know_only_what_came_before() -> None:
    matrix, labels = world(1_000, 3)
    learned: list[slice] = []

    def learn(part: slice) -> Any:
        learned.append(part)
        return LinearRegression().fit(matrix[part], labels[part]).predict

    errors = held_out_errors(matrix, labels, np.arange(1_000.0), learn)
    assert learned == [slice(0, 600), slice(0, 800)]
    answers = [LinearRegression().fit(matrix[:n], labels[:n]).predict(matrix[n : n + 200]) for n in (600, 800)]
    assert np.array_equal(errors.errors, np.concatenate(answers) - labels[600:])
    assert np.array_equal(errors.inputs, np.column_stack([matrix[600:], np.concatenate(answers).astype(np.float32)]))
    assert errors.weights is not None and np.array_equal(errors.weights, np.arange(600.0, 1_000.0))


def test_the_same_rows_give_the_same_bytes_and_few_rows_or_classes_give_none() -> None:
    assert fitted(1_000).to_bytes() == fitted(1_000).to_bytes()
    assert fitted(499).signature.errors is not None and fitted(498).signature.errors is None
    assert has_enough(499) and not has_enough(498)
    binary = fitted(1_000, Binary(), (world(1_000, 0)[0][:, 0] > 0.5).astype(np.float64))
    assert binary.signature.errors is None


def test_weights_count_as_rows_do() -> None:
    """Errors of the second half are three times as large, and stand for nine times as many requests."""
    generator = np.random.default_rng(5)
    errors = generator.normal(size=4_000) * np.repeat([1.0, 3.0], 2_000)
    inputs = generator.uniform(size=(4_000, 2)).astype(np.float32)
    plain = fit_errors(HeldOut(inputs, errors), inputs[:50], 0)
    heavy = fit_errors(HeldOut(inputs, errors, np.repeat([0.2, 1.8], 2_000)), inputs[:50], 0)
    assert plain is not None and heavy is not None
    means = [np.mean(one.parity, axis=0)[0] for one in (plain, heavy)]
    assert means == pytest.approx([2.0 * np.sqrt(2 / np.pi), 2.8 * np.sqrt(2 / np.pi)], rel=0.05)


def test_errors_that_teach_nothing_make_no_model() -> None:
    inputs = np.zeros((300, 2), np.float32)
    assert fit_errors(HeldOut(inputs, np.zeros(300)), inputs, 0) is None
    assert fit_errors(HeldOut(inputs, np.full(300, np.inf)), inputs, 0) is None
    assert fit_errors(HeldOut(inputs, np.full(300, 1e200)), inputs, 0) is None
    constant = fit_errors(HeldOut(inputs, np.full(300, -2.0)), inputs[:3], 0)
    assert constant is not None and np.allclose(constant.parity, [[2.0, 4.0]] * 3)
    assert np.isnan(with_answers(np.zeros((1, 1), np.float32), np.array([1e300]))[0, 1])
