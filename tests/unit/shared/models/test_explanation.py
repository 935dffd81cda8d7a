"""Contributions are the Shapley values that the definition gives, summed over every subset of the inputs."""

from collections.abc import Callable
from itertools import combinations
from math import comb

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.models import artifact
from tidemill.shared.models.explanation import Explainer
from tidemill.shared.models.signature import Column

Matrix = NDArray[np.float32]
COLUMNS = tuple(Column(name=f"c{i}", type="double") for i in range(6))


def by_definition(value: Callable[[Matrix], NDArray[np.float64]], row: Matrix, background: Matrix) -> NDArray[np.float64]:
    n = len(row)

    def of(inside: tuple[int, ...]) -> float:
        mixed = background.copy()
        mixed[:, list(inside)] = row[list(inside)]
        return float(value(mixed).mean())

    found = np.zeros(n)
    for column in range(n):
        others = [i for i in range(n) if i != column]
        for size in range(n):
            for inside in combinations(others, size):
                found[column] += (of((*inside, column)) - of(inside)) / (n * comb(n - 1, size))
    return found


@pytest.mark.parametrize("family", ["lightgbm", "logistic_regression"])
def test_exact_contributions_are_those_of_the_definition(family: str) -> None:
    made, rows, _ = artifact(family, COLUMNS)
    explainer = Explainer(made)

    def log_odds(matrix: Matrix) -> NDArray[np.float64]:
        scores = explainer.scorer.score_matrix(matrix)
        return np.asarray(np.log(scores) - np.log1p(-scores))

    for row in rows[:6]:
        found = explainer.explain(row)
        assert found.unit == "log-odds" and found.method == ("tree" if family == "lightgbm" else "linear")
        assert np.allclose(found.contributions, by_definition(log_odds, row, explainer.background), atol=2e-6)
        assert found.value == pytest.approx(log_odds(row[None])[0], abs=2e-6)
        assert found.base == pytest.approx(log_odds(explainer.background).mean(), abs=2e-6)
        assert not found.standard_errors.any()


def test_any_other_graph_is_explained_by_random_orders_that_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    made, rows, _ = artifact("lightgbm", COLUMNS)
    monkeypatch.setattr("tidemill.shared.models.onnx_scorer.Forest.from_graph", lambda graph: None)
    explainer = Explainer(made, permutations=400)
    for row in rows[:3]:
        found = explainer.explain(row)
        assert (found.method, found.unit) == ("permutations", "probability")
        assert found.value == pytest.approx(explainer.scorer.score_matrix(row[None])[0], abs=1e-12)
        exact = by_definition(explainer.scorer.score_matrix, row, explainer.background)
        assert (np.abs(found.contributions - exact) <= 4 * found.standard_errors + 1e-9).all()


def test_deep_and_wide_trees_are_unfolded_whole() -> None:
    """Every row lands on one leaf, whose value the kernel gives too."""
    made, rows, _ = artifact("lightgbm", tuple(Column(name=f"c{i}", type="double") for i in range(20)))
    explainer = Explainer(made)
    for row in rows[:20]:
        found = explainer.explain(row)
        score = explainer.scorer.score_matrix(row[None])[0]
        assert found.value == pytest.approx(np.log(score / (1 - score)), abs=2e-6)
