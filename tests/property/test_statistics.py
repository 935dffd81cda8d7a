"""Mergeable summaries: any grouping of the rows gives the same bits, and the counts are exact."""

import json

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.long_forms import examples
from tidemill.shared.statistics.histogram import Tally
from tidemill.shared.statistics.sketch import Sketch, binned
from tidemill.shared.statistics.sketches import Sketches, binned_all

_NUMBERS = st.one_of(st.floats(-1e6, 1e6), st.just(float("nan")), st.integers(-3, 40).map(float), st.floats(-3e30, 3e30))


def _column(values: list[float]) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


def _same(left: Sketch, right: Sketch) -> bool:
    return json.dumps(left.snapshot()) == json.dumps(right.snapshot())


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(_NUMBERS, max_size=60), st.lists(st.integers(0, 60), max_size=4), st.integers(0, 2**32 - 1))
def test_sketches_merge_in_any_grouping(values: list[float], cuts: list[int], seed: int) -> None:
    dense = np.random.default_rng(seed).normal(0, 100, 1500)
    column = np.concatenate([_column(values), dense])
    parts = np.split(column, sorted([*cuts, 400, 900]))
    forward, backward = Sketch.empty(), Sketch.empty()
    for part in parts:
        forward = forward.merged(Sketch.of(part))
    for part in reversed(parts):
        backward = Sketch.of(part).merged(backward)
    assert _same(forward, backward) and _same(forward, Sketch.of(column))
    assert _same(forward, Sketch.load(json.loads(json.dumps(forward.snapshot()))))
    assert forward.rows == column.size and forward.missing == int(np.isnan(column).sum()) and forward.keys.size <= 512


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(_NUMBERS, min_size=1, max_size=80), st.lists(_NUMBERS, min_size=1, max_size=80))
def test_bins_conserve_rows(reference: list[float], current: list[float]) -> None:
    expected, seen = binned(Sketch.of(_column(reference)), Sketch.of(_column(current)))
    assert (expected.sum(), seen.sum(), expected.size) == (len(reference), len(current), seen.size)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.tuples(st.lists(_NUMBERS, max_size=40), st.integers(0, 1500)), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_columns_together_are_what_each_is_alone(columns: list[tuple[list[float], int]], seed: int) -> None:
    generator = np.random.default_rng(seed)
    wide = [np.concatenate([_column(values), generator.normal(0, 1e3, dense)]) for values, dense in columns]
    rows = max(map(len, wide))
    padded = np.array([np.concatenate([one, np.full(rows - len(one), np.nan)]) for one in wide])
    together, alone = Sketches.of(padded), [Sketch.of(one) for one in padded]
    assert all(_same(*pair) for pair in zip(together.parts, alone, strict=True))
    more = [Sketch.of(generator.normal(0, 10, 300)), Sketch.empty()]
    union = Sketches.union([[one, *more] for one in alone])
    merged = [one.merged(more[0]).merged(more[1]) for one in alone]
    assert all(_same(*pair) for pair in zip(union.parts, merged, strict=True))
    for pair, (before, now) in zip(binned_all(together, union), zip(alone, merged, strict=True), strict=True):
        assert all(np.array_equal(*some) for some in zip(pair, binned(before, now), strict=True))
    low, high = -20.0, 30.0
    outside = together.outside(np.full(len(wide), low), np.full(len(wide), high)).tolist()
    for values, quantiles, beyond, present in zip(wide, together.quantiles((0.1, 0.5, 0.9)), outside, together.present.tolist(), strict=True):
        real = values[~np.isnan(values)]
        assert present == len(real)
        # A cell is at most a hundredth and a half of its values wide, times two for each time that the grid was halved.
        assert beyond <= ((real < low) | (real > high)).sum() and beyond >= ((real < 3 * low) | (real > 3 * high)).sum()
        if not len(real):
            assert np.isnan(quantiles).all()
        elif max(part.shift for part in together.parts) <= 7:
            exact = np.quantile(real, (0.1, 0.5, 0.9), method="inverted_cdf")
            assert np.allclose(quantiles, exact, rtol=0.1, atol=2**-39)


def test_bins_are_about_equally_full() -> None:
    generator = np.random.default_rng(0)
    for scale, shift in [(1.0, 0.0), (6.0, 1015.0), (300.0, 40.0)]:
        counts, _ = binned(Sketch.of(generator.normal(shift, scale, 20_000)), Sketch.of(generator.normal(shift, scale, 100)))
        assert counts.size == 11 and 1400 < counts[:-1].min() and counts[:-1].max() < 2600


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.one_of(st.none(), st.sampled_from("abcdefgh")), max_size=50), st.integers(0, 50))
@example(values=["a", "b", "c", "d", "a"], cut=1)
def test_tallies_merge(values: list[str | None], cut: int) -> None:
    whole, parts = Tally.of(values), Tally.of(values[:cut]).merged(Tally.of(values[cut:]))
    assert whole == parts == Tally.load(json.loads(json.dumps(whole.snapshot())))
    assert whole.rows == len(values) and whole.bins(3).counts(whole).sum() == len(values)
    few = Tally(limit=3).merged(Tally.of(values[:cut])).merged(Tally.of(values[cut:]))
    assert len(few.counts) <= 3 and few.rows == len(values) and few == Tally(limit=3).merged(whole)
