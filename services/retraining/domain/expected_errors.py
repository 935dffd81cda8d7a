"""A second model, of a regression's errors, fitted on rows that the model which made them had not learned from."""

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tidemill.services.retraining.domain.families.averaged_trees import tree_of
from tidemill.services.retraining.domain.families.family import Matrix, Scores
from tidemill.shared.models.error_model import ErrorModel
from tidemill.shared.models.signature import within_range
from tidemill.shared.models.tree_graph import trees_to_onnx
from tidemill.shared.statistics.propensity import Weights, of_rows

_CUTS = (0.6, 0.8, 1.0)
_LEAST_ROWS, _MOST_ROWS = 200, 50_000
_TREES, _LEAVES, _LEAST_PER_LEAF, _SHARE_PER_LEAF = 20, 16, 20, 50

Learn = Callable[[slice], Callable[[Matrix], Scores]]
"""Fits the recipe on a stretch of the rows, and returns how that model scores."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Rows with the answers of models that had learned from the rows before them.

    Attributes
    ----------
    inputs : float32 array, shape (n, columns + 1)
        The model's columns and its answer.
    errors : shape (n,)
        Answer minus label.
    weights : shape (n,)
    """

    inputs: Matrix
    errors: NDArray[np.float64]
    weights: Weights = None


def has_enough(rows: int) -> bool:
    """Return whether the held-out part of so many rows can teach an error model.

    >>> has_enough(498), has_enough(499)
    (False, True)
    """
    return rows - round(_CUTS[0] * rows) >= _LEAST_ROWS


def held_out_errors(matrix: Matrix, labels: NDArray[np.float64], weights: Weights, learn: Learn) -> HeldOut:
    """Answer the last two fifths of the rows by models that learned from what came before: from three fifths, then from four.

    Parameters
    ----------
    matrix : shape (n, columns)
        In the order of time, encoded as for learning: by earlier labels.
    labels, weights : shape (n,)
    """
    places = [round(share * len(labels)) for share in _CUTS]
    scores = [learn(slice(0, begin))(matrix[begin:end]) for begin, end in pairwise(places)]
    answers, rest = np.concatenate(scores), slice(places[0], len(labels))
    return HeldOut(with_answers(matrix[rest], answers), answers - labels[rest], of_rows(weights, rest))


def with_answers(matrix: Matrix, answers: Scores) -> Matrix:
    """Return the inputs of an error model: a model's columns and, last, what it answers."""
    with np.errstate(over="ignore"):
        return np.column_stack([matrix, within_range(answers.astype(np.float32))])


def fit_errors(rows: HeldOut, parity_inputs: Matrix, seed: int) -> ErrorModel | None:
    """Learn absolute and squared error by inputs and answer; None with fewer than 200 rows, or where no answer errs.

    One shallow forest has both in its leaves: what it expects of the square is then never less than the square of what it expects of the
    absolute error. Both weigh the same when a tree is grown; a leaf has at least twenty rows, and a fiftieth of all.

    Parameters
    ----------
    parity_inputs
        Rows that whoever serves the model checks it by.

    References
    ----------
    NannyML: Estimating model performance without targets, https://nannyml.readthedocs.io (How it works: DLE).
    """
    step = max(1, -(-len(rows.errors) // _MOST_ROWS))
    inputs, errors, weights = rows.inputs[::step], rows.errors[::step], of_rows(rows.weights, slice(None, None, step))
    if len(errors) < _LEAST_ROWS or not np.isfinite(errors).all():
        return None
    with np.errstate(over="ignore"):
        scale = float(np.sqrt(np.average(errors**2, weights=weights)))
    if not (np.isfinite(scale) and scale > 0):
        return None
    sizes = np.column_stack([np.abs(errors) / scale, (errors / scale) ** 2])
    spreads = np.maximum(sizes.std(axis=0), 1e-9)
    # Loaded when needed: scikit-learn takes a second.
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(
        n_estimators=_TREES, max_leaf_nodes=_LEAVES, min_samples_leaf=max(_LEAST_PER_LEAF, len(errors) // _SHARE_PER_LEAF),
        random_state=seed, n_jobs=1,
    )  # fmt: skip
    forest.fit(inputs, sizes / spreads, sample_weight=weights)
    trees = [tree_of(one.tree_, one.tree_.value[:, :, 0] * (spreads / _TREES)) for one in forest.estimators_]
    expected = forest.predict(parity_inputs) * spreads * np.array([scale, scale**2])
    graph = trees_to_onnx(trees, np.zeros(2), "none", inputs.shape[1])
    return ErrorModel(graph=b64encode(graph).decode(), scale=scale, parity=tuple((one, other) for one, other in expected.tolist()))
