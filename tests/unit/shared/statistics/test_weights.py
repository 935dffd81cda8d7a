"""Weighted figures are scikit-learn's with sample weights, and intervals and tests those of rows that are written down as often."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as oracle

from tidemill.services.retraining.domain.calibrating import isotonic, platt
from tidemill.services.retraining.domain.threshold import best_threshold
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.kinds.regression import Regression
from tidemill.shared.statistics.bootstrap import auc_difference_interval, class_auc_difference_interval, mean_difference_interval
from tidemill.shared.statistics.calibration import calibration_difference_interval, calibration_error, calibration_interval
from tidemill.shared.statistics.eprocess import block_means
from tidemill.shared.statistics.paired_test import paired_block_test

RANDOM = np.random.default_rng(11)
N = 400
LABELS: NDArray[np.float64] = (RANDOM.random(N) < 0.3).astype(np.float64)
SCORES = np.asarray(np.round(np.clip(0.3 * LABELS + RANDOM.random(N) * 0.7, 0.01, 0.99), 2), np.float64)
OTHERS = np.round(RANDOM.random(N), 2).clip(0.01, 0.99)
WEIGHTS = RANDOM.choice([1.0, 20.0, 12.5], N)
COUNTS = RANDOM.integers(1, 5, N)
BLOCKS = np.arange(N) // 40


def repeated(values: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(values, COUNTS, axis=0)


def test_binary_figures_are_those_of_scikit_learn() -> None:
    predicted = (SCORES >= 0.5).astype(int)
    figures = Binary().figures(LABELS, SCORES, predicted, WEIGHTS)
    own = {"sample_weight": WEIGHTS}
    expected = {
        "auc": oracle.roc_auc_score(LABELS, SCORES, **own),
        "average_precision": oracle.average_precision_score(LABELS, SCORES, **own),
        "log_loss": oracle.log_loss(LABELS, SCORES, **own),
        "brier": oracle.brier_score_loss(LABELS, SCORES, **own),
        "accuracy": oracle.accuracy_score(LABELS, predicted, **own),
        "balanced_accuracy": oracle.balanced_accuracy_score(LABELS, predicted, **own),
        "kappa": oracle.cohen_kappa_score(LABELS, predicted, **own),
        "precision": oracle.precision_score(LABELS, predicted, **own),
        "recall": oracle.recall_score(LABELS, predicted, **own),
        "f1": oracle.f1_score(LABELS, predicted, **own),
    }
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, abs=1e-12), name


def test_figures_of_other_kinds_are_those_of_scikit_learn() -> None:
    table = RANDOM.dirichlet(np.ones(3), N)
    labels, predicted = RANDOM.integers(0, 3, N).astype(float), table.argmax(axis=1)
    figures = Multiclass(("a", "b", "c")).figures(labels, table, predicted, WEIGHTS)
    own = {"sample_weight": WEIGHTS}
    assert figures["log_loss"] == pytest.approx(oracle.log_loss(labels, table, **own))
    assert figures["kappa"] == pytest.approx(oracle.cohen_kappa_score(labels, predicted, **own))
    assert figures["auc"] == pytest.approx(np.mean([oracle.roc_auc_score(labels == i, table[:, i], **own) for i in range(3)]))
    numbers = Regression().figures(LABELS * 3, SCORES, predicted, WEIGHTS)
    assert numbers["r2"] == pytest.approx(oracle.r2_score(LABELS * 3, SCORES, **own))
    assert numbers["root_mean_squared_error"] == pytest.approx(np.sqrt(oracle.mean_squared_error(LABELS * 3, SCORES, **own)))


def test_a_weight_is_a_row_written_down_as_often() -> None:
    many = [repeated(one) for one in (LABELS, SCORES, OTHERS, BLOCKS)]
    labels, scores, others, blocks = many
    weights = COUNTS.astype(float)
    pairs = [
        (auc_difference_interval(LABELS, SCORES, OTHERS, BLOCKS, weights=weights), auc_difference_interval(labels, scores, others, blocks)),
        (mean_difference_interval(SCORES, OTHERS, BLOCKS, weights=weights), mean_difference_interval(scores, others, blocks)),
        (
            class_auc_difference_interval(LABELS, np.stack([1 - SCORES, SCORES], 1), np.stack([1 - OTHERS, OTHERS], 1), BLOCKS, weights=weights),
            class_auc_difference_interval(labels, np.stack([1 - scores, scores], 1), np.stack([1 - others, others], 1), blocks),
        ),
    ]
    for weighted, plain in pairs:
        assert (weighted.estimate, weighted.low, weighted.high) == pytest.approx((plain.estimate, plain.low, plain.high), abs=1e-12)
    test, plain_test = paired_block_test(SCORES - OTHERS, BLOCKS, weights), paired_block_test(scores - others, blocks)
    assert (test.mean, test.standard_error, test.p_value_less) == pytest.approx((plain_test.mean, plain_test.standard_error, plain_test.p_value_less))
    assert block_means(SCORES, BLOCKS, weights) == pytest.approx(block_means(scores, blocks))
    # Bins are quantiles of the rows as they are: with equal bins the errors are equal.
    one_bin = calibration_error(LABELS, SCORES, 1, weights), calibration_error(labels, scores, 1)
    assert one_bin[0] == pytest.approx(one_bin[1])
    gap = calibration_difference_interval(LABELS, SCORES, OTHERS, BLOCKS, 1, weights=weights)
    for mine, whole in (
        (calibration_interval(LABELS, SCORES, BLOCKS, 1, weights=weights), calibration_interval(labels, scores, blocks, 1)),
        (gap, calibration_difference_interval(labels, scores, others, blocks, 1)),
    ):
        assert (mine.low, mine.high) == pytest.approx((whole.low, whole.high))
    assert best_threshold(LABELS, SCORES, weights) == pytest.approx(best_threshold(labels, scores), abs=0.02)
    fitted, whole_fit = platt(LABELS, SCORES, weights), platt(labels, scores)
    assert fitted is not None and whole_fit is not None
    assert fitted.slope == pytest.approx(whole_fit.slope) and fitted.offsets == pytest.approx(whole_fit.offsets)
    line = isotonic(LABELS, SCORES, weights)
    assert line is not None and np.abs(line.apply(scores) - labels).mean() < np.abs(scores - labels).mean()
