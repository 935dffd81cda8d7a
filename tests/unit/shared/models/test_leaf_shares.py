"""What leaves of many columns share out against many stored rows, against Shapley's definition over all subsets of columns."""

from math import factorial

import numpy as np
import pytest
from numpy.typing import NDArray

from tidemill.shared.models.leaf_shares import LeafShares
from tidemill.shared.models.tree_paths import TreePaths

WIDTH = 9


def random_paths(seed: int, leaves: int) -> TreePaths:
    """Leaves that test nine columns each, some of them twice."""
    draw = np.random.default_rng(seed)
    tests = [np.concatenate([draw.permutation(WIDTH), draw.integers(0, WIDTH, draw.integers(0, 3))]) for _ in range(leaves)]
    columns = np.concatenate(tests).astype(np.int32)
    n = len(columns)
    return TreePaths(
        np.cumsum([0, *map(len, tests)]).astype(np.int64), columns, draw.normal(0, 1, n).astype(np.float32), draw.random(n) < 0.5,
        draw.random(n) < 0.6, draw.normal(0, 1, leaves),
    )  # fmt: skip


def passes(paths: TreePaths, test: int, value: np.float32) -> bool:
    led_on = bool(paths.missing_passes[test]) if np.isnan(value) else bool(value <= paths.thresholds[test])
    return led_on == bool(paths.passes[test])


def shapley(paths: TreePaths, row: NDArray[np.float32], background: NDArray[np.float32]) -> NDArray[np.float64]:
    """Each column's mean gain over all orders, the value of a set being the mean over stored rows with the set's columns replaced."""
    masks = np.arange(1 << WIDTH)
    sizes = np.array([bin(mask).count("1") for mask in masks])
    values = np.zeros(len(masks))
    for leaf, value in enumerate(paths.values):
        own = range(int(paths.first[leaf]), int(paths.first[leaf + 1]))
        by_row = np.array([all(passes(paths, test, row[column]) for test in own if paths.columns[test] == column) for column in range(WIDTH)])
        for stored in background:
            by_stored = np.array(
                [all(passes(paths, test, stored[column]) for test in own if paths.columns[test] == column) for column in range(WIDTH)]
            )
            reached = np.all([np.where(masks >> column & 1, by_row[column], by_stored[column]) for column in range(WIDTH)], axis=0)
            values += reached * value / len(background)
    shares = np.zeros(WIDTH)
    for column in range(WIDTH):
        without = masks[(masks >> column & 1) == 0]
        weights = np.array([factorial(size) * factorial(WIDTH - size - 1) / factorial(WIDTH) for size in sizes[without]])
        shares[column] = (weights * (values[without | 1 << column] - values[without])).sum()
    return shares


@pytest.mark.parametrize("tabled", [True, False])
def test_leaves_of_nine_columns_against_a_hundred_and_fifty_rows_are_what_the_definition_says(monkeypatch: pytest.MonkeyPatch, tabled: bool) -> None:
    if not tabled:
        monkeypatch.setattr("tidemill.shared.models.leaf_shares._TABLED_COLUMNS", 3)
    draw = np.random.default_rng(4)
    paths = random_paths(3, 12)
    background, rows = (draw.normal(0, 1, (n, WIDTH)).astype(np.float32) for n in (150, 5))
    background[draw.random(background.shape) < 0.1] = np.nan
    shares = LeafShares.of(paths, background)
    assert (np.diff(shares.first_pattern) > 64).any(), "more than one word of patterns"
    assert (np.diff(shares.first_number) > 0).all() == tabled
    contributions = shares.contributions(rows)
    expected = np.array([shapley(paths, row, background) for row in rows])
    assert np.abs(expected).max() > 1e-3
    assert np.abs(contributions - expected).max() <= 1e-12
