"""Training of every kind of question: classes with names, numbers with an interval, rare positives."""

import json

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tidemill.services.retraining.domain.encoding import encode
from tidemill.services.retraining.domain.enough_rows import TooFewRowsError
from tidemill.services.retraining.domain.examples import DAY_MS, Examples, Split
from tidemill.services.retraining.domain.held_out import residual_interval
from tidemill.services.retraining.domain.search import search
from tidemill.services.retraining.domain.training import refit, train
from tidemill.shared.application.training_policy import Training
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.kinds.regression import Regression
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.statistics.calibration import calibration_error
from tidemill.shared.statistics.metrics import roc_auc

DAYS = 40
THREE = Multiclass(("left", "middle", "right"))
PLACES = {"a": (0.0, 2.0), "b": (1.0, -1.0), "c": (-2.0, 0.0)}


def world(kind: Kind, n: int = 4_000, seed: int = 0) -> Examples:
    """Two numbers and a category, which of several classes favours different ones in no order."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, DAYS * DAY_MS, n))
    x, y, place = rng.normal(size=n), rng.normal(size=n), rng.choice(list(PLACES), n)
    if kind.classes:
        favours = np.array([[0.0, *PLACES[name]] for name in place])
        odds = np.column_stack([np.zeros(n), 1.2 * x, -0.8 * x + y]) + favours
        labels = (odds + rng.gumbel(size=odds.shape)).argmax(axis=1).astype(np.float64)
    elif kind.name == "regression":
        labels = 50_000 + 900 * x + np.array([400 * PLACES[name][0] for name in place]) + 300 * rng.standard_t(4, n)
    else:
        labels = (rng.random(n) < 1 / (1 + np.exp(-1.5 * x))).astype(np.float64)
    columns = {"x": pa.array(np.where(rng.random(n) < 0.1, np.nan, x), from_pandas=True), "y": pa.array(y), "place": pa.array(place)}
    return Examples(pa.RecordBatch.from_pydict(columns), times, times + 3_600_000, labels)


def parts() -> Split:
    return Split.of(DAYS * DAY_MS, 7, 4_000_000)


def settings(**changes: object) -> Training:
    return Training.model_validate({"trials": 2, "windows_days": (0,), "holdout_days": 7, "min_rows": 300, **changes})


@pytest.mark.lasts(3)
@pytest.mark.parametrize("kind", [THREE, Regression(), Binary()], ids=lambda kind: kind.name)
def test_a_recipe_of_each_kind_is_found_judged_and_served(kind: Kind) -> None:
    rows, split = world(kind), parts()
    trained = train(rows, split, "m", "v", settings(), kind)
    served = refit(rows, split, trained, settings(), kind)
    assert served.to_bytes() == refit(rows, split, trained, settings(), kind).to_bytes()
    scorer, gate = OnnxScorer(served), split.gate(rows, 0)
    signature = scorer.signature
    assert (signature.kind, signature.classes) == (kind.name, kind.classes)
    scores = OnnxScorer(trained.artifact).score(gate.features)
    ignorant = np.broadcast_to(
        np.bincount(rows.labels.astype(int), minlength=3) / len(rows) if kind.classes else np.array(rows.labels.mean()), scores.shape
    )
    assert kind.is_score(scores).all() and kind.losses(gate.labels, scores).mean() < 0.85 * kind.losses(gate.labels, ignorant).mean()
    assert trained.figures["validation_loss"] == pytest.approx(kind.losses(gate.labels, scores).mean(), rel=0.35)
    expected = {"binary": "validation_auc", "multiclass": "validation_accuracy", "regression": "validation_root_mean_squared_error"}[kind.name]
    assert expected in trained.figures and ("calibration_gain" in trained.figures)
    assert (signature.interval is not None) == (kind.name == "regression")


def test_labels_that_are_none_of_the_kind_teach_nothing() -> None:
    for kind, bad in ((THREE, (3.0, -1.0, 0.5, np.nan)), (Regression(), (np.nan, np.inf, -np.inf, np.nan))):
        rows, few = world(kind, 1_500), settings(families=("ridge_regression" if kind.name == "regression" else "logistic_regression",), trials=1)
        labels = rows.labels.copy()
        labels[[100, 400, 700, 1_000]] = bad
        spoiled = Examples(rows.features, rows.request_ms, rows.label_ms, labels)
        clean = rows.where(kind.is_label(labels))
        first, second = (train(chosen, parts(), "m", "v", few, kind).artifact.to_bytes() for chosen in (spoiled, clean))
        assert first == second


def test_ninety_of_a_hundred_labels_are_in_the_interval_and_the_unit_is_no_matter() -> None:
    rows, split = world(Regression(), 8_000), parts()
    scorer = OnnxScorer(train(rows, split, "m", "v", settings(families=("lightgbm",)), Regression()).artifact)
    gate, (low, high) = split.gate(rows, 0), scorer.signature.interval or (0.0, 0.0)
    errors = gate.labels - scorer.score(gate.features)
    assert np.mean((errors >= low) & (errors <= high)) == pytest.approx(0.9, abs=0.03)
    assert abs(np.mean(errors < low) - 0.05) < 0.03 and low < 0 < high
    cents = Examples(rows.features, rows.request_ms, rows.label_ms, rows.labels * 100)
    other = OnnxScorer(train(cents, split, "m", "v", settings(families=("lightgbm",)), Regression()).artifact)
    assert np.allclose(other.score(gate.features), 100 * scorer.score(gate.features), rtol=1e-4)


def test_the_interval_has_the_ranks_of_split_conformal_prediction() -> None:
    residuals = np.random.default_rng(0).permutation(np.arange(1.0, 100.0))
    assert json.loads(residual_interval(residuals, np.zeros(99))) == [5.0, 95.0]
    assert json.loads(residual_interval(np.array([3.0, -1.0, 2.0]), np.zeros(3))) == [-1.0, 3.0]


def test_a_class_with_too_few_rows_is_named() -> None:
    rows, split = world(THREE), parts()
    seen = np.flatnonzero(rows.labels == 1)[6:]
    labels = rows.labels.copy()
    labels[seen] = 2.0
    with pytest.raises(TooFewRowsError, match=r"expected all classes among the training rows, found 6 middle of .* rows, 10 are needed"):
        train(Examples(rows.features, rows.request_ms, rows.label_ms, labels), split, "m", "v", settings(), THREE)


def test_a_rare_class_that_a_week_lacks_stops_nothing_and_one_class_alone_does() -> None:
    rows, split = world(THREE), parts()
    week = (rows.request_ms >= split.validation_start) & (rows.request_ms < split.validation_end)
    without = Examples(rows.features, rows.request_ms, rows.label_ms, np.where(week & (rows.labels == 1), 2.0, rows.labels))
    few = settings(families=("logistic_regression",), trials=1)
    assert np.isfinite(search(without, split, few, THREE).figures["validation_loss"])
    alone = Examples(rows.features, rows.request_ms, rows.label_ms, np.where(week, 2.0, rows.labels))
    with pytest.raises(TooFewRowsError, match=r"validation rows of two classes or more, found 0 left, 0 middle, .* right"):
        search(alone, split, few, THREE)


def test_a_category_has_a_code_for_each_class_and_a_mean_for_a_number() -> None:
    rows = world(THREE)
    encoding = encode(rows.features, rows.labels, rows.request_ms, THREE)
    assert [column.name for column in encoding.columns] == ["x", "y", "place", "place"]
    place = np.array(rows.features.column("place").to_pylist())
    counts = np.bincount(rows.labels.astype(int))
    chosen = sorted(set(range(3)) - {int(counts.argmax())})
    for column, label in zip(encoding.columns[2:], chosen, strict=True):
        for name in PLACES:
            mine = rows.labels[place == name] == label
            assert column.codes[name] == pytest.approx((mine.sum() + 50 * (rows.labels == label).mean()) / (len(mine) + 50))
    numbers = world(Regression())
    code = encode(numbers.features, numbers.labels, numbers.request_ms, Regression()).columns[2].codes
    mine = numbers.labels[np.array(numbers.features.column("place").to_pylist()) == "a"]
    assert code["a"] == pytest.approx((mine.sum() + 50 * numbers.labels.mean()) / (len(mine) + 50))


def test_many_classes_make_no_more_than_eight_columns() -> None:
    many = Multiclass(tuple(f"c{i}" for i in range(30)))
    rng = np.random.default_rng(0)
    labels = np.minimum(rng.geometric(0.2, 3_000) - 1, 29).astype(np.float64)
    batch = pa.RecordBatch.from_pydict({"p": pa.array(rng.choice(["a", "b"], 3_000))})
    assert len(encode(batch, labels, np.arange(3_000), many).columns) == 8


def test_thinning_keeps_every_rare_class_and_the_weights_every_share() -> None:
    rng = np.random.default_rng(0)
    labels = np.where(rng.random(60_000) < 0.004, 2.0, (rng.random(60_000) < 0.1).astype(np.float64))
    rows = Examples(pa.RecordBatch.from_pydict({"x": pa.array(labels)}), np.arange(60_000), np.arange(60_000), labels)
    places, weights = rows.thinning(6_000, THREE)
    assert len(places) <= 6_000 and (labels[places] == 2).sum() == (labels == 2).sum()
    assert np.allclose(np.bincount(labels[places].astype(int), weights) / weights.sum(), np.bincount(labels.astype(int)) / 60_000)
    numbers, ones = rows.thinning(6_000, Regression())
    assert len(numbers) == 6_000 and (ones == 1).all() and np.diff(numbers).tolist() == [10] * 5_999


def rare(n: int = 60_000, seed: int = 5) -> tuple[Examples, NDArray[np.float64]]:
    """Two positives in a thousand, which four columns tell."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, DAYS * DAY_MS, n))
    x = rng.normal(size=(n, 6))
    truth = 1 / (1 + np.exp(-(-8.2 + 1.3 * x[:, 0] + 1.0 * x[:, 1] + 0.8 * x[:, 2] * x[:, 3])))
    labels = (rng.random(n) < truth).astype(np.float64)
    return Examples(pa.RecordBatch.from_pydict({f"x{i}": pa.array(x[:, i]) for i in range(6)}), times, times + 1_000, labels), truth


@pytest.mark.lasts(6)
@pytest.mark.parametrize("family", ["lightgbm", "logistic_regression"])
def test_two_positives_in_a_thousand_are_ranked_and_calibrated_with_equal_weights(family: str) -> None:
    rows, truth = rare()
    assert 0.001 < rows.labels.mean() < 0.003
    split, scored = parts(), {}
    for weight in ("none", "balanced"):
        trained = train(rows, split, "m", "v", settings(families=(family,), class_weight=weight, min_positives=5), Binary())
        gate = rows.request_ms >= split.gate_start
        scored[weight] = OnnxScorer(trained.artifact).score(rows.where(gate).features)
    labels, best = rows.labels[gate], roc_auc(rows.labels[gate], truth[gate])
    assert trained.parameters["class_weight"] == "balanced" and trained.artifact.signature.details["class_weight"] == "balanced"
    balanced = scored["balanced"]
    assert roc_auc(labels, balanced) > max(0.8, best - 0.08), (roc_auc(labels, balanced), best)
    assert balanced.mean() == pytest.approx(truth[gate].mean(), rel=0.5), "the mean score is the rate of positives, not a half and not a fifth of it"
    assert calibration_error(labels, balanced) < 0.002
