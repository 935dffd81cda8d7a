"""Values of every magnitude a float has: after they have left, every aggregate is what a recomputation from the remaining rows gives.

The oracle adds fractions, so it neither rounds nor overflows. What is allowed is rounding beside the largest value that is *still there*.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.feature_oracle import FeatureOracle, Seen
from tests.long_forms import examples
from tests.property.test_feature_engine import PLAN, as_batch, random_schedule
from tests.restarts import folded_with_restarts
from tidemill.services.features.domain.core import FeaturesCore
from tidemill.shared.application.plan import AggregatePlan, ViewPlan, WindowPlan

HUGE = [1.7e308, 1e308, -1e308, 1e200, -1e200, 1.4e154, 3.5e38, 1e30, 1e16, -1e16]
SMALL = [-0.0, 0.0, 5e-324, -5e-324, 1e-310, 1e-200, -1e-200, 1e-9]
ORDINARY = [5.5, 7.5, 12.25, 40.0, 1e3]


def extreme_schedule(rng: np.random.Generator, n: int) -> list[Seen]:
    """The engine's schedule with one amount in four from the ends of the floats, in the first third and now and then later."""
    journal = []
    for i, record in enumerate(random_schedule(rng, n)):
        fields = dict(record.fields)
        if record.stream == "payments" and fields["amount"] is not None:
            odd = rng.random() < (0.5 if i < n / 3 else 0.02)
            fields["amount"] = float(rng.choice(HUGE if rng.random() < 0.6 else SMALL)) if odd else float(rng.choice(ORDINARY))
        journal.append(Seen(record.stream, record.offset, record.now, record.at, record.late, fields))
    return journal


def as_float(exact: Fraction) -> float:
    """A float, NaN where none is large enough."""
    try:
        return float(exact)
    except OverflowError:
        return math.nan


def root(exact: Fraction) -> float:
    """Return the square root of a fraction of any size."""
    if exact <= 0:
        return 0.0
    shift = 2 * ((exact.numerator.bit_length() - exact.denominator.bit_length()) // 2)
    scaled = exact / (Fraction(2) ** shift)
    return as_float(Fraction(math.sqrt(scaled)) * Fraction(2) ** (shift // 2))


class ExactOracle(FeatureOracle):
    """The oracle in fractions; `scale` is the largest magnitude among the values that the last answer came from."""

    scale = 0.0

    def answer(self, view: ViewPlan, aggregate: AggregatePlan, request: Seen) -> float:
        self.scale = 0.0
        return super().answer(view, aggregate, request)

    def _values(self, view: ViewPlan, records: Sequence[Seen]) -> list[Fraction]:
        values = [value for record in records if not math.isnan(value := self._value(view, record))]
        self.scale = max([self.scale, *map(abs, values)])
        return [Fraction(value) for value in values]

    def _aggregate(self, view: ViewPlan, aggregate: AggregatePlan, request: Seen, inside: list[Seen], before: list[Seen]) -> float:
        if aggregate.kind in ("difference", "zscore"):
            assert aggregate.window is not None
            past = self._values(view, self._window(view, aggregate.window, before, request.now))
            own = self._value(view, request)
            if not past or math.isnan(own) or (aggregate.kind == "zscore" and len(past) < 2):
                return math.nan
            self.scale = max(self.scale, abs(own))
            gap = Fraction(own) - _mean(past)
            if aggregate.kind == "difference":
                return as_float(gap)
            spread = _variance(past)
            sign = -1 if gap < 0 else 1
            return sign * root(gap * gap / spread) if spread else math.nan
        return super()._aggregate(view, aggregate, request, inside, before)

    def _windowed(self, view: ViewPlan, aggregate: AggregatePlan, now: int, window: list[Seen]) -> float:
        kind = aggregate.kind
        if kind in ("count", "rate", "distinct"):
            return super()._windowed(view, aggregate, now, window)
        values = self._values(view, window)
        if not values or (kind in ("variance", "std") and len(values) < 2):
            return math.nan
        if kind == "quantile":
            ordered = sorted(values)
            place = Fraction(aggregate.argument) * (len(ordered) - 1)
            below = math.floor(place)
            above = min(below + 1, len(ordered) - 1)
            return as_float(ordered[below] + (ordered[above] - ordered[below]) * (place - below))
        if kind in ("variance", "std"):
            return as_float(_variance(values)) if kind == "variance" else root(_variance(values))
        return as_float({"sum": sum(values, Fraction(0)), "mean": _mean(values), "min": min(values), "max": max(values)}[kind])

    def _decayed(self, view: ViewPlan, aggregate: AggregatePlan, now: int, inside: list[Seen]) -> float:
        if aggregate.value is None:
            return super()._decayed(view, aggregate, now, inside)
        pairs = [(record, value) for record in inside if not math.isnan(value := self._value(view, record))]
        self.scale = max([0.0, *(abs(value) for _, value in pairs)])
        half = aggregate.half_life_events or aggregate.half_life_ms
        ages = [len(pairs) - 1 - i if aggregate.half_life_events else now - self._time(view, record) for i, (record, _) in enumerate(pairs)]
        weights = [Fraction(0.5 ** (age / float(half or 1))) for age in ages]
        if not pairs:
            return math.nan
        total = sum((weight * Fraction(value) for weight, (_, value) in zip(weights, pairs, strict=True)), Fraction(0))
        return as_float(total if aggregate.kind == "decayed_sum" else total / sum(weights, Fraction(0)))


def _mean(values: Sequence[Fraction]) -> Fraction:
    return sum(values, Fraction(0)) / len(values)


def _variance(values: Sequence[Fraction]) -> Fraction:
    mean = _mean(values)
    return sum(((value - mean) ** 2 for value in values), Fraction(0)) / (len(values) - 1)


def is_sketch(aggregate: AggregatePlan) -> bool:
    window: WindowPlan | None = aggregate.window
    return aggregate.kind == "quantile" and window is not None and (window.kind != "sliding" or window.step_ms > 0)


# Half of the least double is no double: between 0 and it, either may be what rounding leaves.
LEAST = math.ulp(0.0)


def agrees(aggregate: AggregatePlan, truth: float, got: float, scale: float) -> bool:
    """Equal but for rounding beside the largest value present."""
    if math.isnan(truth):
        # A variance that is no float may belong to a standard deviation that is one.
        return math.isnan(got)
    if math.isnan(got):
        return aggregate.kind == "zscore"  # No spread that rounding does not explain.
    kind = aggregate.kind
    if kind in ("count", "distinct", "min", "max", "first", "last", "lag", "rate", "ratio") or kind.startswith("time_"):
        return got == pytest.approx(truth, rel=1e-12, abs=0.0)
    if kind == "quantile":
        # A rank is rounded as well, and lies between values that may be as far apart as the largest.
        return got == pytest.approx(truth, rel=1e-9, abs=1e-14 * scale + LEAST)
    if kind == "zscore":
        return got == pytest.approx(truth, rel=1e-6, abs=1e-6)
    if kind.startswith("decayed"):
        return got == pytest.approx(truth, rel=1e-9, abs=min(1e-14 * scale, 1e308) + 1e-290)
    if kind == "variance":
        return got == pytest.approx(truth, rel=1e-9, abs=0.0) or math.sqrt(abs(truth)) < 1e-13 * scale
    if kind == "std":
        return got == pytest.approx(truth, rel=1e-9, abs=min(1e-13 * scale, 1e308))
    if kind == "difference":
        return got == pytest.approx(truth, rel=1e-9, abs=1e-15 * scale + LEAST)
    return got == pytest.approx(truth, rel=1e-9, abs=1e-25 * scale + LEAST)


@settings(max_examples=examples(10), deadline=None)
@given(seed=st.integers(0, 100_000))
def test_every_aggregate_is_what_the_remaining_rows_give(seed: int) -> None:
    rng = np.random.default_rng(seed)
    journal = extreme_schedule(rng, 150)
    vectors = FeaturesCore(PLAN).process(as_batch(journal)).to_pydict()
    oracle = ExactOracle(journal)
    requests = [record for record in journal if record.stream == "payments"]
    checked = 0
    for row in rng.choice(len(requests), 25, replace=False).tolist():
        for view in PLAN.views:
            for aggregate in view.aggregates:
                if is_sketch(aggregate):
                    continue
                truth, value = oracle.answer(view, aggregate, requests[row]), vectors[aggregate.feature][row]
                got = math.nan if value is None else value
                assert not math.isinf(got)
                assert agrees(aggregate, truth, got, oracle.scale), (aggregate.feature, row, seed, truth, got, oracle.scale)
                checked += 1
    assert checked > 3_000


@settings(max_examples=examples(8), deadline=None)
@given(seed=st.integers(0, 100_000), restart=st.sampled_from([0.0, 0.5]))
def test_the_bits_depend_on_neither_batching_nor_restarts(seed: int, restart: float) -> None:
    rng = np.random.default_rng(seed)
    journal = as_batch(extreme_schedule(rng, 300))
    whole = FeaturesCore(PLAN).process(journal)
    together = folded_with_restarts(PLAN, journal, rng, restart, 4_000, 40)
    for name in whole.schema.names:
        assert together.column(name).equals(whole.column(name)), name


@settings(max_examples=examples(10), deadline=None)
@given(seed=st.integers(0, 100_000))
def test_reading_changes_no_bits_whatever_has_left(seed: int) -> None:
    rng = np.random.default_rng(seed)
    journal = as_batch(extreme_schedule(rng, 200))
    whole, read = FeaturesCore(PLAN), FeaturesCore(PLAN, followed=True)
    from tests.journals import cut

    cuts = [0, *sorted(rng.choice(np.arange(1, 200), 12, replace=False).tolist()), 200]
    for begin, end in pairwise(cuts):
        part = cut(journal, begin, end)
        expected, after_reading = whole.process(part), read.process(part)
        assert after_reading.equals(expected)
        read.read("account", ["a0", "a1", "a2"], int(part.journal_time_ms[-1]))


@pytest.mark.parametrize("bad", [1e308, 1.7e308, 1e200, 1e154, 1e40])
def test_sketches_stay_finite_and_say_what_is_there(bad: float) -> None:
    """Of a session or a whole history, a digest with the ends of the floats in it: quantiles are values or between them."""
    start = 1_700_000_000_000
    amounts = [bad, -bad, *([10.0, 20.0, 30.0] * 60)]
    fields = [{"payment": f"p{i}", "account": "a", "merchant": "m", "amount": amount} for i, amount in enumerate(amounts)]
    journal = [Seen("payments", i, start + 100 * i, start + 100 * i, False, one) for i, one in enumerate(fields)]
    row = FeaturesCore(PLAN).process(as_batch(journal)).to_pylist()[-1]
    for name in ("exact__quantile_0_5_all", "exact__quantile_0_5_session_45s"):
        assert 10.0 <= row[name] <= 30.0
    assert row["exact__quantile_0_all"] == -bad
