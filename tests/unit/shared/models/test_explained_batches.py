"""A batch of rows is explained as shap explains it, each row as alone, for every kind."""

import json
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax, logit, softmax

from tests.models import PARAMETERS, ROUNDS, data
from tests.unit.shared.models.test_explanation import by_definition
from tidemill.services.retraining.domain.fitting import fit
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.models.artifacts import Artifact
from tidemill.shared.models.calibration import Calibration
from tidemill.shared.models.explanation import Explainer
from tidemill.shared.models.export import lightgbm_to_onnx, linear_to_onnx
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.models.signature import Column, Signature

COLUMNS = tuple(Column(name=f"c{i}", type="double") for i in range(6))
CLASSES = ("low", "middle", "high")
GOLDEN = json.loads((Path(__file__).parent / "shap.json").read_text(encoding="utf-8"))
"""Of shap 0.51.0 on the trees of `booster`: ``TreeExplainer(trees of one output, fresh[:8], feature_perturbation="interventional",
model_output="raw").shap_values(fresh[8:48])``."""
Matrix = NDArray[np.float32]


def booster(kind: str) -> lightgbm.Booster:
    matrix, label = data(1_000, 6, 0)
    third = label + (np.nan_to_num(matrix[:, 2]) > 0.5)
    number = np.nan_to_num(matrix[:, 0]) * 3 + np.nan_to_num(matrix[:, 1]) ** 2
    asked = {
        "binary": ("binary", label, ROUNDS, {}),
        "multiclass": ("multiclass", third.astype(np.int64), 20, {"num_class": 3}),
        "regression": ("regression", number, ROUNDS, {}),
    }
    objective, target, rounds, more = asked[kind]
    return lightgbm.train({**PARAMETERS, "objective": objective, **more}, lightgbm.Dataset(matrix, target), rounds)


def explainer(graph: bytes, kind: str, background: Matrix, calibration: Calibration | None = None) -> Explainer:
    signature: dict[str, Any] = {
        "model": "m", "version": "v", "family": "lightgbm", "columns": COLUMNS, "threshold": 0.5, "kind": kind, "calibration": calibration,
        "classes": CLASSES if kind == "multiclass" else (), "parity_tolerance": 1e9,
        "parity_rows": [[None if np.isnan(x) else float(x) for x in row] for row in background],
        "parity_scores": [[1 / 3] * 3 if kind == "multiclass" else 0.5] * len(background),
    }  # fmt: skip
    return Explainer(Artifact(Signature(**signature), graph))


@pytest.mark.parametrize("kind", ["binary", "regression", "multiclass"])
def test_a_batch_is_explained_as_shap_does(kind: str) -> None:
    fresh, _ = data(300, 6, 1)
    made, golden = booster(kind), GOLDEN[kind]
    one, raw = explainer(lightgbm_to_onnx(made, 6), kind, fresh[:8]), made.predict(fresh[8:48], raw_score=True)
    for output, wanted in enumerate(golden["contributions"]):
        explained = one.explain_rows(fresh[8 : 8 + len(wanted)], [output] * len(wanted))
        assert (explained.method, explained.unit) == ("tree", {"binary": "log-odds", "multiclass": "margin", "regression": "score"}[kind])
        assert explained.adds_up.all()
        assert np.abs(explained.contributions - wanted).max() <= 2e-6
        # What is served has 32 bits.
        assert np.abs(explained.base - golden["base"][output]).max() <= 5e-6
        margins, together = np.asarray(raw).reshape(40, -1)[: len(wanted), output], explained.base + explained.contributions.sum(axis=1)
        assert np.abs(together - margins).max() <= 5e-6
        if kind == "binary":
            assert np.abs(together - logit(explained.scores)).max() <= 1e-9


@pytest.mark.parametrize("kind", ["binary", "regression", "multiclass"])
def test_a_row_is_explained_as_it_would_be_alone(kind: str) -> None:
    fresh, _ = data(300, 6, 1)
    one = explainer(lightgbm_to_onnx(booster(kind), 6), kind, fresh[:8])
    asked = (np.arange(100) % (3 if kind == "multiclass" else 1)).tolist()
    whole = one.explain_rows(fresh[8:108], asked)
    for row in range(0, 100, 7):
        alone = one.explain(fresh[8 + row], asked[row])
        assert alone.base == whole.base[row]
        assert alone.contributions.tolist() == whole.contributions[row].tolist()


def test_leaves_of_many_columns_are_shared_out_without_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh, _ = data(300, 6, 1)
    graph = lightgbm_to_onnx(booster("binary"), 6)
    tabled = explainer(graph, "binary", fresh[:8]).explain_rows(fresh[8:48], [0] * 40)
    monkeypatch.setattr("tidemill.shared.models.leaf_shares._TABLE_NUMBERS", 3_000)
    plain = explainer(graph, "binary", fresh[:8]).explain_rows(fresh[8:48], [0] * 40)
    assert np.abs(plain.contributions - tabled.contributions).max() <= 1e-12


def test_a_temperature_is_part_of_the_margins_of_several_classes() -> None:
    fresh, _ = data(300, 6, 1)
    graph, calibration = lightgbm_to_onnx(booster("multiclass"), 6), Calibration(link="softmax", slope=0.7, offsets=(0.1, -0.2, 0.3))
    plain, moved = explainer(graph, "multiclass", fresh[:8]), explainer(graph, "multiclass", fresh[:8], calibration)
    served, margins = moved.scorer.score_matrix(fresh[8:28]), np.empty((20, 3))
    for output in range(3):
        before, explained = (one.explain_rows(fresh[8:28], [output] * 20) for one in (plain, moved))
        assert explained.adds_up.all()
        assert np.allclose(explained.contributions, 0.7 * before.contributions, atol=1e-12)
        assert explained.scores.tolist() == served[:, output].tolist()
        margins[:, output] = explained.base + explained.contributions.sum(axis=1)
    assert np.abs(softmax(margins, axis=1) - served).max() <= 1e-6


def test_a_linear_model_of_several_classes_is_explained_in_margins() -> None:
    fresh, _ = data(60, 6, 1)
    rng = np.random.default_rng(2)
    means, scales, weights, bias = rng.normal(size=6), rng.uniform(1, 2, 6), rng.normal(size=(3, 6)), rng.normal(size=3)
    one = explainer(linear_to_onnx(means, scales, weights, bias, "softmax"), "multiclass", fresh[:20])
    filled = np.where(np.isnan(fresh), means, fresh)
    margins, others = ((rows - means) / scales @ weights.T + bias for rows in (filled, filled[:20]))
    for output in range(3):
        explained = one.explain_rows(fresh[20:], [output] * 40)
        assert explained.method == "linear" and explained.unit == "margin" and explained.adds_up.all()
        own = (filled[20:] - filled[:20].mean(axis=0)) / scales * weights[output]
        assert np.abs(explained.contributions - own).max() <= 1e-5
        assert np.abs(explained.base - others[:, output].mean()).max() <= 1e-5
        assert np.abs(explained.base + explained.contributions.sum(axis=1) - margins[20:, output]).max() <= 1e-5


def test_averaged_trees_of_several_classes_are_explained_in_probability() -> None:
    matrix, label = data(600, 6, 0)
    labels = (label + (np.nan_to_num(matrix[:, 2]) > 0.5)).astype(np.float64)
    parameters = {"family": "random_forest", "window_days": 0, "trees": 10, "leaves": 16, "rows_per_leaf": 10, "feature_share": 0.5}
    made = fit(matrix, labels, Multiclass(CLASSES), parameters, 1)
    one = explainer(made.export(), "multiclass", matrix[:10])
    for row in matrix[20:22]:
        explained = one.explain(row, 2)
        assert (explained.method, explained.unit) == ("tree", "probability")
        exact = by_definition(lambda m: one.scorer.score_matrix(m)[:, 2], row, one.background)
        assert np.abs(explained.contributions - exact).max() <= 1e-6
        assert explained.value == pytest.approx(made.raw(row[None])[0, 2], abs=1e-6)


def test_margins_that_are_not_those_of_the_answer_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh, _ = data(300, 6, 1)
    one = explainer(lightgbm_to_onnx(booster("multiclass"), 6), "multiclass", fresh[:8])
    scores = log_softmax(one.scorer.score_matrix(fresh[8:28]), axis=1)
    wrong = np.exp(0.5 * scores) / np.exp(0.5 * scores).sum(axis=1, keepdims=True)
    monkeypatch.setattr(OnnxScorer, "score_matrix", lambda self, matrix: wrong)
    assert not one.explain_rows(fresh[8:28], [0] * 20).adds_up.any()


def test_a_model_that_has_no_exact_method_says_what_keeps_it_from_one() -> None:
    fresh, _ = data(300, 6, 1)
    graph = lightgbm_to_onnx(booster("binary"), 6)
    assert explainer(graph, "binary", fresh[:8]).hindrance is None
    bent = explainer(graph, "binary", fresh[:8], Calibration(link="logit", knots=(0.0, 0.5, 1.0), levels=(0.1, 0.4, 0.9)))
    assert bent.hindrance == "calibration"
    with pytest.raises(ValueError, match="its calibration is not"):
        bent.explain_rows(fresh[8:10], [0, 0])
