"""Values that lie apart from day to day more than within one: a cold spell is neither another unit nor beyond the range."""

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tidemill.services.drift.domain.broken_values import BrokenValues
from tidemill.services.drift.domain.conditions import Conditions
from tidemill.services.drift.domain.data_quality import QualityBounds, with_reach
from tidemill.services.drift.domain.features import FeatureColumn, FeatureFold
from tidemill.services.drift.domain.findings import Coordinates
from tidemill.shared.statistics.sketch import Sketch

ROWS = 400
POUNDS = 0.45359237
AT = Coordinates(0, 0, 0)
Float64 = NDArray[np.float64]


def weather(generator: np.random.Generator, day: float) -> Float64:
    return day + generator.normal(0, 2, ROWS)


def fold_of(days: list[Float64]) -> FeatureFold:
    fold = FeatureFold([FeatureColumn("column", "double")])
    for number, values in enumerate(days):
        fold.absorb(pa.RecordBatch.from_pydict({"column": values}))
        fold.close_day(number)
    return fold


def told(days: list[Float64], day: Float64) -> list[str]:
    """Return what is told of a day by a champion of the days before it."""
    fold = fold_of(days)
    seen = with_reach(fold.seen()["column"], fold.daily["column"])
    usual = {"column": QualityBounds.of(fold.daily["column"], 0.0, 0.05)}
    values = BrokenValues("v1", {"column": seen}, usual, fold.scales(), 100, 0.1)
    return [one.kind for one in values.look(AT, Conditions("m"), {"column": Sketch.of(day)}, {}, frozenset())]


@pytest.mark.parametrize("seed", range(20))
def test_a_cold_day_is_no_change_of_units(seed: int) -> None:
    """Its quantiles are .45 times those of all days: narrower because it is one day, lower because it is cold."""
    generator = np.random.default_rng(seed)
    days = [weather(generator, level) for level in generator.normal(16, 3, 60)]
    quantiles = np.quantile(np.concatenate(days), [0.25, 0.5, 0.75])
    middle = POUNDS * quantiles[1]
    cold = middle + (np.sort(generator.permutation(np.concatenate(days))[:ROWS]) - quantiles[1]) * POUNDS
    assert np.ptp(np.quantile(cold, [0.1, 0.9])) < 1.3 * np.ptp(np.quantile(days[0], [0.1, 0.9])), "as wide as any day"
    assert "units" not in told(days, cold)


@pytest.mark.parametrize("factor", [1.609344, POUNDS, 10.0])
@pytest.mark.parametrize("seed", range(5))
def test_other_units_move_the_values_of_a_day_apart(seed: int, factor: float) -> None:
    generator = np.random.default_rng(seed)
    days = [generator.gamma(3.0, 200.0, 10 * ROWS) * level for level in np.exp(generator.normal(0, 0.005, 60))]
    assert told(days[:-1], days[-1]) == []
    assert "units" in told(days[:-1], days[-1] * factor)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("seed", range(10))
def test_a_colder_day_than_any_before_is_within_the_range(seed: int, sign: int) -> None:
    generator = np.random.default_rng(seed)
    levels = generator.normal(16, 3, 60)
    days = [weather(generator, level) for level in levels]
    assert told(days, weather(generator, 16 + sign * 3 * 4.2)) == []
    assert "range" in told(days, weather(generator, 16 + sign * 3 * 7))


@pytest.mark.parametrize("seed", range(10))
def test_what_differs_by_the_row_keeps_its_range(seed: int) -> None:
    """Days are alike: what is beyond the range is as new as it was."""
    generator = np.random.default_rng(seed)
    for days in ([generator.normal(50, 10, ROWS) for _ in range(60)], [generator.lognormal(0, 0.6, ROWS) for _ in range(60)]):
        seen = fold_of(days).seen()["column"]
        wide = with_reach(seen, fold_of(days).daily["column"])
        assert isinstance(seen, Sketch) and isinstance(wide, Sketch)
        assert max(seen.low - wide.low, wide.high - seen.high) < 0.01 * (seen.high - seen.low)


def test_of_a_fortnight_nothing_is_said_and_infinite_values_have_no_ends() -> None:
    generator = np.random.default_rng(0)
    days = [weather(generator, level) for level in generator.normal(16, 3, 13)]
    seen, daily = fold_of(days).seen()["column"], fold_of(days).daily["column"]
    assert with_reach(seen, daily) is seen
    assert with_reach(seen, {name: [*values, values[0]] for name, values in daily.items()}) != seen
    infinite = fold_of([*days, np.append(days[0], np.inf)]).daily["column"]
    assert {len(infinite[name]) for name in ("lowest", "highest", "middle", "spread")} == {13}
