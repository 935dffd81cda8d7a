"""Evidence by e-values: against scipy's noncentral t, in simulated years, and at what it could have seen."""

import numpy as np
import pytest
from scipy import stats

from campaigns.gate_years import World, power, year_of_candidates, year_of_one
from tidemill.shared.statistics.eprocess import below, block_means, discoveries, lag_one
from tidemill.shared.statistics.levels import YEAR_MS, next_level

DAY_MS = 86_400_000


@pytest.mark.parametrize("count", [7, 12, 28, 60])
@pytest.mark.parametrize("shift", [-0.5, 0.0, 0.4, 1.0])
def test_the_e_value_is_the_likelihood_ratio_of_the_t_statistic(count: int, shift: float) -> None:
    values = np.random.default_rng(count).normal(shift, 2.0, count)
    values = np.sort(values)[np.argsort(np.arange(count) % 2, kind="stable").argsort()]  # Neighbours far apart: single blocks are looked at.
    test = below(values, 0.25)
    assert test.days_per_block == 1 and test.blocks == count
    t = stats.ttest_1samp(0.25 - values, 0.0).statistic
    ratios = [stats.nct.pdf(t, count - 1, effect * np.sqrt(count)) / stats.t.pdf(t, count - 1) for effect in (0.15, 0.3, 0.6, 1.2)]
    assert test.e == pytest.approx(np.mean(ratios), rel=1e-5)


def test_neighbours_that_go_together_are_pooled_in_pairs() -> None:
    values = np.repeat(np.random.default_rng(2).normal(0.0, 1.0, 12), 2)
    test = below(values, 0.5)
    assert lag_one(values) > 0.1 and (test.blocks, test.days_per_block) == (12, 2)
    assert test.log_e == pytest.approx(below(values[::2], 0.5).log_e)


def test_nothing_is_shown_by_nothing() -> None:
    for values in (np.zeros(0), np.zeros(6), np.array([np.nan] * 9), np.append(np.zeros(20), np.inf)):
        test = below(values, 0.01)
        assert not test.shows(0.99) and test.e == 0.0
    assert not below(np.zeros(28)).shows(0.5), "no difference at all is no advantage"
    assert below(np.zeros(28), 0.005).shows(1e-6), "but it is surely less than the margin"


def test_the_scale_does_not_matter_and_the_margin_is_in_the_unit_of_the_loss() -> None:
    values = np.random.default_rng(3).normal(0.002, 0.01, 28)
    assert below(values, 0.005).log_e == pytest.approx(below(values * 1e4, 50.0).log_e)
    assert below(values, 0.005).log_e == pytest.approx(below(values - 0.005).log_e)


@pytest.mark.lasts(6)
@pytest.mark.parametrize("correlation", [0.0, 0.3])
def test_candidates_worse_by_the_margin_do_not_pass_however_often_they_are_looked_at(correlation: float) -> None:
    """The short form of ``make gate-years``: of 40 years 5 % are 2, and more than 5 would come in 1 of 60 runs of a bound that just holds."""
    random, world = np.random.default_rng(4), World(0.05, correlation)
    assert sum(year_of_candidates(world, random) for _ in range(30)) + sum(year_of_one(world, random) for _ in range(10)) <= 5


def test_what_could_have_been_seen_is_seen_in_four_of_five_cases() -> None:
    random, world = np.random.default_rng(5), World(0.02, 0.0)
    level = next_level([], 0, 0.05)
    claims = [below(world.days(random, 0.005, 28), 0.005).detectable(0.005, level) for _ in range(40)]
    claim = float(np.median(claims))
    assert -0.06 < claim < -0.01
    assert power(world, random, claim, 200) == pytest.approx(0.8, abs=0.12)
    assert below(np.zeros(3)).detectable(0.005, level) == -np.inf


def test_block_means_are_those_of_a_loop() -> None:
    random = np.random.default_rng(6)
    values, blocks = random.normal(size=300), random.integers(-4, 9, 300)
    expected = [np.mean([value for value, block in zip(values, blocks, strict=True) if block == one]) for one in sorted(set(blocks.tolist()))]
    assert block_means(values, blocks) == pytest.approx(expected)


def test_of_many_equal_slices_hardly_any_is_found_and_a_bad_one_is() -> None:
    random = np.random.default_rng(7)
    false = 0
    for _ in range(200):
        e_values = [below(-random.normal(0.02, 0.05, 28), -0.02).log_e for _ in range(19)]
        false += int(discoveries(e_values, 0.05).any())
    assert false <= 10, "19 tests at 5 % each would find one in 62 % of cases"
    e_values = [below(-random.normal(0.02 + 0.2 * (i == 3), 0.05, 28), -0.02).log_e for i in range(19)]
    assert np.flatnonzero(discoveries(e_values, 0.05)).tolist() == [3]
    assert not discoveries([float("nan")] * 3, 0.05).any() and not discoveries([], 0.05).any()


def test_levels_of_any_year_add_up_to_less_than_the_years() -> None:
    random, spent, now = np.random.default_rng(8), list[tuple[int, float]](), 0
    for _ in range(200):
        now += int(random.integers(1, 40)) * DAY_MS
        spent.append((now, next_level(spent, now, 0.05)))
    assert all(level > 0 for _, level in spent)
    assert max(sum(level for at, level in spent if end - YEAR_MS < at <= end) for end, _ in spent) < 0.04
