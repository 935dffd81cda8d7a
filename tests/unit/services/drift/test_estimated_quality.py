"""Quality without labels: against a plain loop over rows, and against the labels once they are there."""

import json
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as oracle

from tidemill.services.drift.domain.estimated_quality import EstimatedQuality
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.kinds.regression import Regression

Float64 = NDArray[np.float64]
THREE = Multiclass(("red", "green", "blue"))


def estimate(kind: Kind, scores: Float64, predicted: NDArray[np.int64], cuts: tuple[int, ...] = ()) -> EstimatedQuality:
    estimated = EstimatedQuality()
    for begin, end in pairwise([0, *cuts, len(scores)]):
        estimated.absorb(kind, scores[begin:end], predicted[begin:end])
        estimated = EstimatedQuality.load(json.loads(json.dumps(estimated.snapshot())))
    return estimated


def by_weights(probability: Float64, given: NDArray[np.bool_]) -> dict[str, float]:
    """A row is p of a positive one and 1 - p of a negative one: scikit-learn on both halves with these weights."""
    label, weight = np.repeat([1, 0], len(probability)), np.concatenate([probability, 1 - probability])
    score, answer = np.tile(probability, 2), np.tile(given, 2)
    return {
        "auc": oracle.roc_auc_score(label, score, sample_weight=weight),
        "precision": oracle.precision_score(label, answer, sample_weight=weight),
        "recall": oracle.recall_score(label, answer, sample_weight=weight),
        "f1": oracle.f1_score(label, answer, sample_weight=weight),
        "accuracy": oracle.accuracy_score(label, answer, sample_weight=weight),
        "log_loss": oracle.log_loss(label, score, sample_weight=weight),
        "brier": oracle.brier_score_loss(label, score, sample_weight=weight),
    }


@pytest.mark.parametrize(("a", "b", "threshold"), [(2, 5, 0.5), (0.05, 5, 0.02), (1, 1, 0.3)])
def test_two_classes_are_estimated_as_weighted_rows_say(a: float, b: float, threshold: float) -> None:
    score = np.random.default_rng(1).beta(a, b, 4_000)
    figures = estimate(Binary(), score, (score >= threshold).astype(np.int64)).figures(Binary())
    for name, value in by_weights(score, score >= threshold).items():
        assert figures[f"estimated_{name}"] == pytest.approx(value, abs=2e-4), name


def test_nannyml_estimates_the_same() -> None:
    """Its CBPE (0.13.1, run once in an environment of its own) on these scores, after a reference of calibrated ones that it did not recalibrate."""
    generator = np.random.default_rng(7)
    generator.beta(1, 4, 20_000), generator.random(20_000)
    score = generator.beta(2, 3, 5_000)
    figures = estimate(Binary(), score, (score >= 0.4).astype(np.int64)).figures(Binary())
    theirs = {"auc": 0.7343859132, "f1": 0.6196901001, "precision": 0.5682653217, "recall": 0.6813482390, "accuracy": 0.6674319919}
    for name, value in theirs.items():
        assert figures[f"estimated_{name}"] == pytest.approx(value, abs=1e-5), name


def drawn(seed: int, count: int) -> Float64:
    shares: Float64 = np.random.default_rng(seed).dirichlet([0.5, 1.0, 0.3], count)
    return shares


def test_three_classes_are_each_held_against_the_rest() -> None:
    table = drawn(2, 3_000)
    predicted = table.argmax(axis=1)
    figures = estimate(THREE, table, predicted).figures(THREE)
    each = [by_weights(table[:, number], predicted == number) for number in range(3)]
    for name in ("auc", "precision", "recall", "f1"):
        assert figures[f"estimated_{name}"] == pytest.approx(np.mean([one[name] for one in each]), abs=2e-4), name
    assert figures["estimated_accuracy"] == pytest.approx(table.max(axis=1).mean())
    assert figures["estimated_log_loss"] == pytest.approx(-(table * np.log(table)).sum(axis=1).mean(), rel=1e-4)
    assert figures["estimated_brier"] == pytest.approx((table * (1 - table)).sum(axis=1).mean())


def test_many_classes_take_little_room_and_are_estimated_as_well() -> None:
    kind = Multiclass(tuple(f"c{number}" for number in range(30)))
    table = np.random.default_rng(6).dirichlet(np.full(30, 0.3), 3_000)
    predicted = table.argmax(axis=1)
    estimated = estimate(kind, table, predicted)
    each = [by_weights(table[:, number], predicted == number)["auc"] for number in range(30)]
    assert estimated.figures(kind)["estimated_auc"] == pytest.approx(np.mean(each), abs=3e-4)
    assert len(json.dumps(estimated.snapshot())) < 300_000
    outside = EstimatedQuality()
    outside.absorb(kind, table, np.full(3_000, 30))
    assert outside.answers == 0


def test_the_interval_holds_what_comes_for_right_probabilities_and_not_for_wrong_ones() -> None:
    """400 times labels are drawn from the scores of 1,500 rows: each metric lies in its interval 95 times in 100, give or take."""
    generator = np.random.default_rng(3)
    score = generator.beta(1, 4, 1_500)
    predicted = (score >= 0.4).astype(np.int64)
    figures = estimate(Binary(), score, predicted).figures(Binary())
    metrics: dict[str, Callable[[NDArray[np.int64]], float]] = {
        "auc": lambda label: oracle.roc_auc_score(label, score),
        "accuracy": lambda label: oracle.accuracy_score(label, predicted),
        "log_loss": lambda label: oracle.log_loss(label, score),
        "brier": lambda label: oracle.brier_score_loss(label, score),
    }
    for name, metric in metrics.items():
        low, high = figures[f"estimated_{name}_low"], figures[f"estimated_{name}_high"]
        came = [metric((generator.random(1_500) < score).astype(np.int64)) for _ in range(400)]
        assert 0.915 <= np.mean([low <= one <= high for one in came]) <= 0.98, name
        assert figures[f"estimated_{name}"] == pytest.approx(np.mean(came), abs=0.004), name
    worse = (generator.random(1_500) < 0.5 * score + 0.1).astype(int)
    assert not figures["estimated_auc_low"] <= oracle.roc_auc_score(worse, score) <= figures["estimated_auc_high"]


@pytest.mark.parametrize("kind", [Binary(), THREE], ids=lambda kind: kind.name)
def test_batches_and_restarts_change_nothing(kind: Kind) -> None:
    scores = drawn(4, 900) if kind.classes else drawn(4, 900)[:, 1]
    predicted = scores.argmax(axis=1) if kind.classes else (scores > 0.3).astype(np.int64)
    whole = estimate(kind, scores, predicted)
    parts = estimate(kind, scores, predicted, tuple(sorted(np.random.default_rng(5).integers(0, 900, 30).tolist())))
    assert parts.figures(kind) == whole.figures(kind)
    assert len(json.dumps(whole.snapshot())) < 150_000


def test_what_says_nothing_is_left_out() -> None:
    none = np.zeros(100, dtype=np.int64)
    assert estimate(Regression(), np.arange(100.0), none).figures(Regression()) == {}
    assert estimate(Binary(), np.full(29, 0.5), none[:29]).figures(Binary()) == {}
    with_nan = estimate(Binary(), np.concatenate([np.full(5, np.nan), np.linspace(0, 1, 95)]), none)
    assert with_nan.answers == 95
    certain = estimate(Binary(), np.zeros(100), none).figures(Binary())
    assert certain["estimated_accuracy"] == 1 and "estimated_auc" not in certain
