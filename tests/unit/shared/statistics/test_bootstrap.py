"""The paired intervals and tests against loops over scikit-learn and scipy."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import roc_auc_score

from tidemill.shared.statistics.bootstrap import (
    auc_difference_interval,
    class_auc_difference_interval,
    mean_difference_interval,
)
from tidemill.shared.statistics.paired_test import paired_block_test

Rows = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]


def _rows(seed: int, count: int = 600, days: int = 9) -> Rows:
    generator = np.random.default_rng(seed)
    days_of_rows = generator.integers(0, days, count) + 15_000
    signal = generator.random(count)
    labels = (generator.random(count) < signal).astype(float)
    first = np.round(np.clip(signal + generator.normal(0, 0.2, count), 0, 1), 2)
    second = np.round(np.clip(signal + generator.normal(0, 0.4, count), 0, 1), 2)
    return labels, np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64), days_of_rows


@pytest.mark.parametrize("seed", range(3))
def test_auc_interval_equals_a_loop_over_redrawn_days(seed: int) -> None:
    labels, first, second, days = _rows(seed)
    interval = auc_difference_interval(labels, first, second, days, repetitions=60, seed=5)
    assert interval.estimate == pytest.approx(roc_auc_score(labels, first) - roc_auc_score(labels, second), abs=1e-12)
    names = np.unique(days)
    draws = np.random.Generator(np.random.PCG64(5)).multinomial(len(names), np.full(len(names), 1 / len(names)), size=60)
    differences = []
    for draw in draws:
        rows = np.concatenate([np.tile(np.flatnonzero(days == name), times) for name, times in zip(names, draw, strict=True)]).astype(int)
        differences.append(roc_auc_score(labels[rows], first[rows]) - roc_auc_score(labels[rows], second[rows]))
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])), abs=1e-12)
    assert interval.low < interval.estimate < interval.high


def _redrawn(days: NDArray[np.int64], times: int, seed: int) -> list[NDArray[np.int64]]:
    names = np.unique(days)
    draws = np.random.Generator(np.random.PCG64(seed)).multinomial(len(names), np.full(len(names), 1 / len(names)), size=times)
    return [
        np.concatenate([np.tile(np.flatnonzero(days == name), count) for name, count in zip(names, draw, strict=True)]).astype(int) for draw in draws
    ]


def test_the_interval_of_several_classes_equals_a_loop_over_redrawn_days() -> None:
    generator = np.random.default_rng(1)
    labels, days = generator.integers(0, 3, 400).astype(float), generator.integers(0, 7, 400)
    first, second = (generator.dirichlet(np.ones(4), 400) + weight * (labels[:, None] == np.arange(4)) for weight in (0.3, 0.1))
    interval = class_auc_difference_interval(labels, first, second, days, repetitions=40, seed=5)

    def area(rows: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
        return float(np.mean([roc_auc_score(labels[rows] == one, scores[rows, one]) for one in range(3)]))

    differences = [area(rows, first) - area(rows, second) for rows in _redrawn(days, 40, 5)]
    assert interval.estimate == pytest.approx(area(np.arange(400), first) - area(np.arange(400), second), abs=1e-12)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])), abs=1e-12)


def test_the_interval_of_a_mean_equals_a_loop_over_redrawn_days() -> None:
    generator = np.random.default_rng(2)
    first, second, days = generator.exponential(size=300), generator.exponential(1.2, 300), generator.integers(0, 6, 300)
    interval = mean_difference_interval(first, second, days, repetitions=40, seed=5)
    differences = [first[rows].mean() - second[rows].mean() for rows in _redrawn(days, 40, 5)]
    assert interval.estimate == pytest.approx(first.mean() - second.mean(), abs=1e-12)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])), abs=1e-12)
    empty = mean_difference_interval([], [], [])
    assert np.isnan([empty.estimate, empty.low, empty.high]).all()


def test_paired_test_equals_the_t_test() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(0.1, 1, 80)
    alone = paired_block_test(values, np.arange(80))
    oracle = stats.ttest_1samp(values, 0.0)
    assert (alone.statistic, alone.p_value) == pytest.approx((oracle.statistic, oracle.pvalue), rel=1e-9)
    assert alone.p_value_less == pytest.approx(stats.ttest_1samp(values, 0.0, alternative="less").pvalue, rel=1e-9)
    blocks = paired_block_test(values, np.repeat(np.arange(8), 10))
    oracle = stats.ttest_1samp(values.reshape(8, 10).mean(axis=1), 0.0)
    assert (blocks.statistic, blocks.p_value) == pytest.approx((oracle.statistic, oracle.pvalue))
    assert blocks.blocks == 8


def test_nothing_is_claimed_without_evidence() -> None:
    assert np.isnan(paired_block_test([1.0, 2.0], [4, 4]).p_value)
    assert np.isnan(paired_block_test([], []).mean)
    assert paired_block_test([0.0, 0.0], [1, 2]).p_value == 1.0
    assert paired_block_test([-1.0, -1.0], [1, 2]).p_value_less == 0.0
    empty = auc_difference_interval([], [], [], [])
    assert np.isnan([empty.estimate, empty.low, empty.high]).all()
    single = auc_difference_interval([1, 1], [0.1, 0.2], [0.3, 0.1], [1, 2])
    assert np.isnan([single.estimate, single.low, single.high]).all()
    one_class = class_auc_difference_interval([1, 1], np.full((2, 3), 1 / 3), np.full((2, 3), 1 / 3), [1, 2])
    assert np.isnan([one_class.estimate, one_class.low, one_class.high]).all()
