"""Metrics against scikit-learn and scipy."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance
from sklearn import metrics as oracle

from tidemill.shared.statistics import metrics
from tidemill.shared.statistics.calibration import calibration_difference_interval, calibration_error, calibration_interval
from tidemill.shared.statistics.distances import distances, population_stability_index


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("digits", [1, 2, 12])
def test_metrics_equal_scikit_learn(seed: int, digits: int) -> None:
    generator = np.random.default_rng(seed)
    scores = np.round(generator.random(700), digits)
    labels = (generator.random(700) < 0.2 + 0.5 * scores).astype(float)
    predicted = (scores > 0.4).astype(int)
    assert metrics.roc_auc(labels, scores) == pytest.approx(oracle.roc_auc_score(labels, scores), abs=1e-12)
    assert metrics.log_loss(labels, scores) == pytest.approx(oracle.log_loss(labels, scores), rel=1e-12)
    assert metrics.brier(labels, scores) == pytest.approx(oracle.brier_score_loss(labels, scores), rel=1e-12)
    assert metrics.accuracy(labels, predicted) == oracle.accuracy_score(labels, predicted)
    assert metrics.kappa(labels, predicted) == pytest.approx(oracle.cohen_kappa_score(labels, predicted), abs=1e-12)


def test_calibration_error_equals_a_loop() -> None:
    generator = np.random.default_rng(1)
    scores = np.append(generator.random(500), [0.0, 1.0])
    labels = (generator.random(502) < scores**2).astype(float)
    total = 0.0
    for low in range(10):
        rows = sorted(range(502), key=lambda row: float(scores[row]))[-(-502 * low // 10) : -(-502 * (low + 1) // 10)]
        total += len(rows) / 502 * abs(float(np.mean(labels[rows])) - float(np.mean(scores[rows])))
    assert calibration_error(labels, scores) == pytest.approx(total, abs=1e-12)


def test_the_calibration_error_of_a_rare_class_is_seen() -> None:
    """Scores of .001 and .02 whose rates are swapped: bins of equal width hold all of them in one, where the means agree."""
    scores = np.repeat([0.001, 0.019], 50_000)
    generator = np.random.default_rng(0)
    labels = (generator.random(100_000) < scores[::-1]).astype(float)
    assert calibration_error(labels, scores) == pytest.approx(0.018, rel=0.1)


def test_the_interval_of_the_calibration_error() -> None:
    """A calibrated model's reaches nearly to zero, and an error of .05 is within its interval, in about 85 of 100 samples of 40 days."""
    generator = np.random.default_rng(3)
    inside, zero = 0, 0
    for _ in range(100):
        scores, days = generator.beta(2, 5, 4_000), np.repeat(np.arange(40), 100)
        shared = np.repeat(generator.normal(0, 0.03, 40), 100)
        off = calibration_interval(generator.random(4_000) < np.clip(scores + 0.05 + shared, 0, 1), scores, days)
        right = calibration_interval(generator.random(4_000) < scores, scores, days)
        inside += off.low <= 0.05 <= off.high
        zero += right.low < 0.005
    assert inside >= 80 and zero >= 80, (inside, zero)
    scores, days = generator.beta(2, 5, 40_000), np.repeat(np.arange(40), 1_000)
    worse = calibration_difference_interval(generator.random(40_000) < scores, scores + 0.05, scores, days)
    assert 0.03 < worse.low < worse.estimate < worse.high < 0.07


def test_undefined_metrics_are_nan() -> None:
    assert np.isnan(metrics.roc_auc([1, 1], [0.2, 0.3]))
    for metric in (metrics.roc_auc, metrics.log_loss, metrics.brier, metrics.accuracy, metrics.kappa, calibration_error):
        assert np.isnan(metric([], []))
    assert np.isnan(metrics.kappa([0, 0], [0, 0]))


def test_distances_equal_scipy() -> None:
    generator = np.random.default_rng(2)
    first, second = generator.integers(0, 50, 12), generator.integers(0, 50, 12)
    assert distances([first], [second], [True])[0, 1] == pytest.approx(distance.jensenshannon(first, second, base=2), abs=1e-12)
    left, right = np.round(generator.normal(size=300), 1), np.round(generator.normal(0.3, 1.2, size=200), 1)
    values = np.unique(np.concatenate([left, right]))
    counts = [np.array([(sample == value).sum() for value in values]) for sample in (left, right)]
    assert distances([counts[0]], [counts[1]], [True])[0, 2] == pytest.approx(stats.ks_2samp(left, right).statistic, abs=1e-12)
    p, q = first / first.sum(), second / second.sum()
    p, q = np.maximum(p, 1e-4), np.maximum(q, 1e-4)
    expected = sum((b - a) * np.log(b / a) for a, b in zip(p, q, strict=True))
    assert population_stability_index(first, second) == pytest.approx(float(expected))
    assert distances([np.array([1, 0])], [np.array([0, 1])], [True])[0, 1] == pytest.approx(1.0)
    assert population_stability_index(first, first) == 0.0


@pytest.mark.parametrize("bad", [[], [0, 0], [-1, 2]])
def test_distances_refuse_what_is_no_histogram(bad: list[int]) -> None:
    with pytest.raises(ValueError, match="expected counts"):
        population_stability_index(bad, [1, 2])
    with pytest.raises(ValueError, match="same bins"):
        population_stability_index([1, 2, 3], [1, 2])
