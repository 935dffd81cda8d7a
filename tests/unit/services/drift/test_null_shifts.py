"""A day is held against days: weather does not warn, a change does."""

import json

import numpy as np
import pyarrow as pa
import pytest

from tidemill.services.drift.domain.features import FeatureColumn, FeatureFold
from tidemill.services.drift.domain.findings import Coordinates, Finding
from tidemill.services.drift.domain.null_shifts import shift_bounds
from tidemill.services.drift.domain.watch import ModelWatch, WatchSettings
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.statistics.distances import population_stability_index

NAMES = tuple(f"f{i}" for i in range(10))
ROWS = 200


def days(seed: int, promoted: int, end: int, changed: int, jump: float) -> list[tuple[int, Finding, float]]:
    """Ten features whose every day has a level of its own; from a day on the first one is higher. Findings of features with the day and the index."""
    generator = np.random.default_rng(seed)
    fold = FeatureFold([FeatureColumn(name, "double") for name in NAMES])
    watch = ModelWatch(WatchSettings("m", "asked", NAMES, Binary(), 500))
    found = []
    for day in range(end):
        level = generator.normal(0, 0.4, len(NAMES))
        level[0] += jump if day >= changed else 0.0
        columns = [pa.array(np.exp(generator.normal(one, 1.0, ROWS))) for one in level]
        if day == promoted:
            watch.promote("v1", 1, fold.seen(), fold.null)
        fold.absorb(pa.RecordBatch.from_arrays(columns, names=list(NAMES)))
        if day >= promoted:
            shifts = fold.shifts(watch.references["v1"], NAMES)
            found += [(day, one, shifts[one.subject].psi) for one in watch.shifted(Coordinates(day, 0, day), shifts) if one.kind == "feature"]
        fold.close_day()
    return found


def test_days_with_a_weather_of_their_own_do_not_warn() -> None:
    calm = [finding for seed in range(3) for finding in days(seed, 60, 160, 10**6, 0.0)]
    assert len(calm) <= 9, "one of 1,000 feature-days: three in 3,000 expected"
    assert all(one.statistic > 0.2 for _, one, _ in calm), "against a bound of 0.2 about every other day of every feature was beyond"


@pytest.mark.parametrize("seed", range(3))
def test_a_change_beyond_the_weather_warns_the_same_day(seed: int) -> None:
    found = days(seed, 60, 110, 100, 4.0)
    mine = [(day, one) for day, one, _ in found if one.subject == "f0"]
    assert [day for day, _ in mine if day >= 100] == [100]
    assert mine[-1][1].statistic > mine[-1][1].threshold > 0.2


def test_below_thirty_windows_distribution_shift_is_no_warning() -> None:
    assert not days(0, 20, 60, 30, 6.0)


def test_the_null_is_each_days_index_against_what_came_before() -> None:
    generator = np.random.default_rng(1)
    columns = [FeatureColumn("c", "string")]
    fold, values = FeatureFold(columns), [[str(v) for v in generator.integers(0, 4, 150)] for _ in range(5)]
    for day in values:
        fold.absorb(pa.RecordBatch.from_pydict({"c": day}))
        fold.close_day()
    expected = []
    for number in range(1, 5):
        before = [v for day in values[:number] for v in day]
        count = [[part.count(str(level)) for level in range(4)] for part in (before, values[number])]
        expected.append(population_stability_index(np.array([*count[0], 0, 0]), np.array([*count[1], 0, 0])))
    # The fold orders its bins by frequency: the index does not care.
    assert fold.null["c"] == pytest.approx(expected, rel=1e-6)
    assert json.loads(json.dumps(fold.null)) == fold.null


def test_bounds_scale_with_each_features_own_days() -> None:
    generator = np.random.default_rng(2)
    null = {"calm": np.exp(generator.normal(-4, 0.3, 90)).tolist(), "wild": np.exp(generator.normal(0, 0.3, 90)).tolist(), "new": [0.1] * 29}
    bounds = shift_bounds(null, 0.2)
    assert bounds.keys() == {"calm", "wild"} and bounds["calm"] == 0.2
    assert 1.8 < bounds["wild"] < 4.5, "e to the 0.3 times about three deviations"
    assert shift_bounds({}, 0.2) == {}
