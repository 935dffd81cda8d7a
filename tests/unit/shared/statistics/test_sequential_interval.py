"""A confidence sequence is the inversion of its e-process, and simulated years of daily looks decide wrongly as seldom as is said."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import gammaln

from tests.simulated_days import correlated_days, decisions
from tidemill.shared.statistics.eprocess import below
from tidemill.shared.statistics.sequential_interval import critical_ratio, sequential_interval
from tidemill.shared.statistics.sticky_arms import BUCKETS, StickyArms, bucket_of

LEVEL = 0.015
"""On either side: what an A/B test spends by default."""
DAY_EFFECT = 0.05


def independent(n: int, seed: int) -> NDArray[np.float64]:
    """Values whose neighbours do not correlate, so that nothing is pooled."""
    for attempt in range(100):
        values = np.random.default_rng((seed, attempt)).normal(0.3, 1.0, n)
        if sequential_interval(values, LEVEL).days_per_block == 1:
            return values
    raise AssertionError("expected some values without correlation")


@pytest.mark.parametrize("n", [7, 14, 40])
def test_a_bound_is_where_the_evidence_is_just_enough(n: int) -> None:
    values = independent(n, 1)
    interval = sequential_interval(values, LEVEL)
    assert np.exp(below(values, interval.high).log_e) == pytest.approx(1 / LEVEL, rel=1e-6)
    assert np.exp(below(-values, -interval.low).log_e) == pytest.approx(1 / LEVEL, rel=1e-6)
    assert interval.log_e_below == pytest.approx(below(values).log_e) and interval.log_e_above == pytest.approx(below(-values).log_e)


def test_the_critical_ratio_is_that_of_a_numerical_integral() -> None:
    def e_value(n: int, ratio: float) -> float:
        integral = 0.0
        for effect in (0.15, 0.3, 0.6, 1.2):
            area, _ = quad(lambda v, d=effect: v ** (n - 1) * np.exp(-(v**2) / 2 + d * ratio * v), 0, 60, epsabs=0, epsrel=1e-10, limit=200)
            integral += area * np.exp(-n * effect**2 / 2 - (n / 2 - 1) * np.log(2) - gammaln(n / 2)) / 4
        return integral

    for n in (7, 12, 30):
        assert e_value(n, critical_ratio(n, LEVEL)) == pytest.approx(1 / LEVEL, rel=1e-6)


def test_slack_widens_the_interval_and_weakens_the_evidence() -> None:
    values = independent(20, 2)
    plain, wide = sequential_interval(values, LEVEL), sequential_interval(values, LEVEL, 0.2)
    assert (wide.low, wide.high) == pytest.approx((plain.low - 0.2, plain.high + 0.2))
    assert wide.log_e_above < plain.log_e_above and wide.detectable == pytest.approx(plain.detectable + 0.2)


def test_few_or_undefined_blocks_show_nothing() -> None:
    for values in ([], [0.1], [-1.0] * 6, [0.1] * 20 + [float("nan")]):
        interval = sequential_interval(values, LEVEL)
        assert not (interval.is_above or interval.is_below or interval.is_within(1e9)) and interval.detectable == float("inf")


def test_years_of_equal_versions_looked_at_daily_are_seldom_decided_and_better_ones_are() -> None:
    rng = np.random.default_rng(18)
    days = correlated_days(rng, 4_000, 90, 0.3, DAY_EFFECT)
    above, below_zero = decisions(days, LEVEL)
    wrong = (above | below_zero).cumsum(axis=1) > 0
    # Measured with 60,000 runs: 1.6 % within 14 days, 3.2 % within 28 and 4.9 % within 90. Three standard errors of 4,000 runs are 1 %.
    assert wrong[:, 13].mean() <= 0.05 and wrong[:, 27].mean() <= 0.05 and wrong[:, 89].mean() <= 0.06
    steady = correlated_days(rng, 2_000, 28, 0.0, DAY_EFFECT)
    assert (decisions(steady, LEVEL)[0] | decisions(steady, LEVEL)[1]).any(axis=1).mean() <= 0.02

    gain = correlated_days(rng, 1_000, 28, 0.3, DAY_EFFECT) - DAY_EFFECT
    won, lost = decisions(gain, LEVEL)[1].any(axis=1), decisions(gain, LEVEL)[0].any(axis=1)
    assert won.mean() >= 0.65 and lost.mean() <= 0.002, "one standard deviation of the days is seen in 28 of them in about three of four cases"


def test_the_simulation_decides_as_the_interval_does() -> None:
    days = correlated_days(np.random.default_rng(5), 12, 40, 0.3, DAY_EFFECT) - 0.02
    above, below_zero = decisions(days, LEVEL)
    for run in range(len(days)):
        for day in range(40):
            interval = sequential_interval(days[run, : day + 1], LEVEL)
            assert (interval.is_above, interval.is_below) == (above[run, day], below_zero[run, day]), (run, day)


def test_what_is_said_to_be_seen_is_seen_in_four_of_five_cases() -> None:
    rng = np.random.default_rng(7)
    interval = sequential_interval(independent(28, 3), LEVEL)
    shift = interval.detectable / interval.spread
    days = rng.normal(-shift, 1.0, (400, 28))
    last = [sequential_interval(run, LEVEL) for run in days]
    seen = np.mean([one.is_below for one in last if one.days_per_block == 1])
    assert 0.72 <= seen <= 0.88


def arms(rng: np.random.Generator, entities: int, spread: float, effect: float) -> list[bool]:
    """Whether three weeks of two arms of sticky entities, which differ among each other, show a difference: by days alone, and with the slack."""
    draw, own = rng.random(entities), rng.normal(0, spread, entities)
    bucket, asked, effects, days = bucket_of(draw, 0.5), 600, StickyArms(), list[float]()
    shown = [False, False]
    for day in range(21):
        who = rng.integers(0, entities, asked)
        value = 0.2 + own[who] + rng.normal(0, 0.4, asked) + effect * (bucket[who] < BUCKETS)
        weights, sums = np.bincount(bucket[who], minlength=2 * BUCKETS), np.bincount(bucket[who], value, minlength=2 * BUCKETS)
        effects.add(weights, sums)
        first = slice(0, BUCKETS)
        days.append(float(sums[first].sum() / weights[first].sum() - sums[BUCKETS:].sum() / weights[BUCKETS:].sum()))
        if day % 7 == 6:
            for place, slack in enumerate((0.0, 2.58 * effects.standard_error())):
                interval = sequential_interval(days, LEVEL, slack)
                shown[place] |= interval.is_above or interval.is_below
    return shown


def test_entities_that_an_arm_keeps_are_no_evidence_though_their_days_agree() -> None:
    rng = np.random.default_rng(9)
    equal = np.array([arms(rng, 200, 0.3, 0.0) for _ in range(60)])
    assert equal[:, 0].mean() > 0.3, "what days alone would say"
    assert equal[:, 1].mean() <= 0.05
    better = np.array([arms(rng, 2_000, 0.1, -0.1) for _ in range(20)])
    assert better[:, 1].mean() >= 0.9


def test_buckets_are_groups_of_entities_within_their_arm_and_a_restart_knows_them() -> None:
    draw = np.random.default_rng(3).random(50_000)
    bucket = bucket_of(draw, 0.1)
    assert ((bucket < BUCKETS) == (draw < 0.1)).all()
    assert np.bincount(bucket)[:BUCKETS].mean() == pytest.approx(100, rel=0.05) and bucket.max() == 2 * BUCKETS - 1
    known = StickyArms()
    for seed in range(3):
        rng = np.random.default_rng(seed)
        known.add(rng.integers(1, 9, 100), rng.normal(size=100))
    again = StickyArms.load(known.snapshot())
    assert again.standard_error() == known.standard_error() and again.blocks == 3
    assert StickyArms().standard_error() == float("inf")
