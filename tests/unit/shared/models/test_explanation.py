"""Contributions are the Shapley values that the definition gives, summed over every subset of the inputs."""

from collections.abc import Callable
from itertools import combinations
from math import comb

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tests.models import artifact
from tidemill.services.retraining.domain.examples import Examples, Split
from tidemill.services.retraining.domain.fitting import fit
from tidemill.services.retraining.domain.training import train
from tidemill.shared.application.training_policy import Training
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.regression import Regression
from tidemill.shared.models.artifacts import Artifact, ArtifactError
from tidemill.shared.models.calibration import Calibration
from tidemill.shared.models.explanation import Explainer
from tidemill.shared.models.export import logistic_to_onnx
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.models.signature import Column, Signature

Matrix = NDArray[np.float32]
COLUMNS = tuple(Column(name=f"c{i}", type="double") for i in range(6))


def by_definition(value: Callable[[Matrix], NDArray[np.float64]], row: Matrix, background: Matrix) -> NDArray[np.float64]:
    n = len(row)

    def of(inside: tuple[int, ...]) -> float:
        mixed = background.copy()
        mixed[:, list(inside)] = row[list(inside)]
        return float(value(mixed).mean())

    contributions = np.zeros(n)
    for column in range(n):
        others = [i for i in range(n) if i != column]
        for size in range(n):
            for inside in combinations(others, size):
                contributions[column] += (of((*inside, column)) - of(inside)) / (n * comb(n - 1, size))
    return contributions


@pytest.mark.parametrize("family", ["lightgbm", "logistic_regression"])
def test_exact_contributions_are_those_of_the_definition(family: str) -> None:
    made, rows, _ = artifact(family, COLUMNS)
    explainer = Explainer(made)

    def log_odds(matrix: Matrix) -> NDArray[np.float64]:
        scores = explainer.scorer.score_matrix(matrix)
        return np.asarray(np.log(scores) - np.log1p(-scores))

    for row in rows[:6]:
        explanation = explainer.explain(row)
        assert explanation.unit == "log-odds" and explanation.method == ("tree" if family == "lightgbm" else "linear")
        assert np.allclose(explanation.contributions, by_definition(log_odds, row, explainer.background), atol=2e-6)
        assert explanation.value == pytest.approx(log_odds(row[None])[0], abs=1e-6)
        assert explanation.base == pytest.approx(log_odds(explainer.background).mean(), abs=2e-6)
        assert not explanation.standard_errors.any()


def served_log_odds(explainer: Explainer, matrix: Matrix) -> NDArray[np.float64]:
    scores = explainer.scorer.score_matrix(matrix)
    return np.asarray(np.log(scores) - np.log1p(-scores))


def with_calibration(made: Artifact, calibration: Calibration) -> Artifact:
    rows = made.signature.parity_matrix()
    plain = OnnxScorer(Artifact(made.signature.model_copy(update={"calibration": None}), made.onnx)).score_matrix(rows)
    scores = tuple(calibration.apply(plain).tolist())
    return Artifact(made.signature.model_copy(update={"calibration": calibration, "parity_scores": scores, "parity_tolerance": 1e-3}), made.onnx)


@pytest.mark.parametrize("family", ["lightgbm", "logistic_regression"])
def test_a_calibration_that_is_a_line_in_log_odds_is_part_of_the_contributions(family: str) -> None:
    """They added up to the graph's own score and not to the served one."""
    plain, rows, _ = artifact(family, COLUMNS)
    made = with_calibration(plain, Calibration(link="logit", slope=0.6, offsets=(-0.9,)))
    explainer = Explainer(made)
    for row in rows[:4]:
        explanation = explainer.explain(row)
        assert explanation.unit == "log-odds"
        assert np.allclose(explanation.contributions, by_definition(lambda m: served_log_odds(explainer, m), row, explainer.background), atol=2e-6)
        assert explanation.value == pytest.approx(served_log_odds(explainer, row[None])[0], abs=1e-6)


@pytest.mark.parametrize("slope", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_an_answer_close_to_certainty_is_explained_whatever_its_probability_loses_to_rounding(slope: float, sign: int) -> None:
    """In 32 bits a probability next to 1 is told from 1 by two log-odds or more, and so is what a calibration makes of it."""
    weights = np.full(6, float(sign))
    plain = Artifact(
        artifact("logistic_regression", COLUMNS)[0].signature.model_copy(update={"parity_tolerance": 1.0}),
        logistic_to_onnx(np.zeros(6), np.ones(6), weights, 0.0),
    )
    made = plain if slope == 1.0 else with_calibration(plain, Calibration(link="logit", slope=slope, offsets=(0.3,)))
    explainer = Explainer(made)
    rows = np.repeat(np.linspace(0.0, 5.0, 400, dtype=np.float32)[:, None], 6, axis=1)
    explained = explainer.explain_rows(rows, [0] * len(rows))
    assert explained.adds_up.all(), rows[~explained.adds_up, 0]
    wrong = explainer._sums("logit", explained.contributions.sum(axis=1) + explained.base + 0.01 * slope, explained.scores)[1]
    assert not wrong[rows[:, 0] < 1.5].any(), "where the probability tells, it is asked"


def test_an_isotonic_calibration_is_explained_in_what_is_served() -> None:
    plain, rows, _ = artifact("lightgbm", COLUMNS)
    made = with_calibration(plain, Calibration(link="logit", knots=(0.0, 0.3, 0.5, 1.0), levels=(0.05, 0.2, 0.7, 0.9)))
    explainer = Explainer(made, permutations=300)
    for row in rows[:3]:
        explanation = explainer.explain(row)
        assert (explanation.method, explanation.unit) == ("permutations", "probability")
        assert explanation.value == pytest.approx(explainer.scorer.score_matrix(row[None])[0], abs=1e-12)
        exact = by_definition(explainer.scorer.score_matrix, row, explainer.background)
        assert (np.abs(explanation.contributions - exact) <= 4 * explanation.standard_errors + 1e-9).all()


@pytest.mark.parametrize("family", ["lightgbm", "ridge_regression", "random_forest"])
def test_a_regression_is_explained_in_the_labels_own_unit(family: str) -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(700, 6))
    label = 50_000 + 900 * x[:, 0] - 400 * x[:, 1] * x[:, 2] + rng.normal(size=700) * 50
    columns = {f"c{i}": pa.array(x[:, i]) for i in range(6)}
    times = np.arange(700, dtype=np.int64) * 3_600_000
    rows = Examples(pa.RecordBatch.from_pydict(columns), times, times + 1, label)
    training = Training.model_validate({"trials": 1, "windows_days": (0,), "holdout_days": 7, "min_rows": 100, "families": (family,)})
    explainer = Explainer(train(rows, Split.of(700 * 3_600_000, 7, 1), "m", "v", training, Regression()).artifact)
    assert len(explainer.background) == 100
    for row in x[:3].astype(np.float32):
        explanation = explainer.explain(row)
        assert explanation.unit == "score" and explanation.method in ("tree", "linear") and explanation.base == pytest.approx(50_000, rel=0.05)
        assert explanation.value == pytest.approx(explainer.scorer.score_matrix(row[None])[0], rel=1e-6)
        exact = by_definition(explainer.scorer.score_matrix, row, explainer.background)
        assert np.allclose(explanation.contributions, exact, atol=0.05)


def test_any_other_graph_is_explained_by_random_orders_that_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    made, rows, _ = artifact("lightgbm", COLUMNS)
    monkeypatch.setattr("tidemill.shared.models.onnx_scorer.Forest.from_graph", lambda graph: None)
    explainer = Explainer(made, permutations=400)
    for row in rows[:3]:
        explanation = explainer.explain(row)
        assert (explanation.method, explanation.unit) == ("permutations", "probability")
        assert explanation.value == pytest.approx(explainer.scorer.score_matrix(row[None])[0], abs=1e-12)
        exact = by_definition(explainer.scorer.score_matrix, row, explainer.background)
        assert (np.abs(explanation.contributions - exact) <= 4 * explanation.standard_errors + 1e-9).all()


def test_deep_and_wide_trees_are_unfolded_whole() -> None:
    """Every row lands on one leaf, whose value the kernel gives too."""
    made, rows, _ = artifact("lightgbm", tuple(Column(name=f"c{i}", type="double") for i in range(20)))
    explainer = Explainer(made)
    for row in rows[:20]:
        explanation = explainer.explain(row)
        score = explainer.scorer.score_matrix(row[None])[0]
        assert explanation.value == pytest.approx(np.log(score / (1 - score)), abs=2e-6)


def test_averaged_trees_have_no_log_odds_that_a_calibration_could_move() -> None:
    """Slope and offset were applied to the probability that such a forest adds up to."""
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(600, 6)).astype(np.float32)
    labels = (matrix[:, 0] + rng.normal(0, 0.5, 600) > 0).astype(np.float64)
    parameters = {"family": "random_forest", "window_days": 0, "trees": 20, "leaves": 16, "rows_per_leaf": 10, "feature_share": 0.5}
    made, platt = fit(matrix, labels, Binary(), parameters, 1), Calibration(link="logit", slope=0.7, offsets=(-0.4,))
    signature = Signature(
        model="m", version="v", family="random_forest", columns=COLUMNS, threshold=0.5, calibration=platt, parity_tolerance=3e-6,
        parity_rows=tuple(tuple(row) for row in matrix[:20].tolist()), parity_scores=tuple(platt.apply(made.raw(matrix[:20])).tolist()),
    )  # fmt: skip
    explainer = Explainer(Artifact(signature, made.export()), permutations=300)
    for row in matrix[100:102]:
        one = explainer.explain(row)
        assert (one.method, one.unit) == ("permutations", "probability")
        assert one.value == pytest.approx(float(explainer.scorer.score_matrix(row[None])[0]), abs=1e-6)


def test_parts_that_do_not_add_up_to_the_answer_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made, rows, _ = artifact("lightgbm", COLUMNS)
    explainer = Explainer(made)
    monkeypatch.setattr("tidemill.shared.models.explanation._is_linear", lambda calibration, logistic: True)
    wrong = Explainer(with_calibration(made, Calibration(link="logit", knots=(0.0, 0.5, 1.0), levels=(0.3, 0.4, 0.9))))
    assert explainer.explain(rows[0]).method == "tree"
    with pytest.raises(ArtifactError, match=r"model v1: expected parts that add up to the answer .*, found"):
        wrong.explain(rows[0])
