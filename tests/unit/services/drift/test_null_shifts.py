"""A window is held against windows: weather does not warn, a change does."""

import json

import numpy as np
import pyarrow as pa
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency

from tidemill.services.drift.domain.features import FeatureColumn, FeatureFold
from tidemill.services.drift.domain.findings import Coordinates, Finding
from tidemill.services.drift.domain.null_shifts import NullShifts
from tidemill.services.drift.domain.shifts import Shift, shifts_of
from tidemill.services.drift.domain.watch import ModelWatch
from tidemill.services.drift.domain.watch_settings import WatchSettings
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.statistics.distances import distances, population_stability_index

NAMES = tuple(f"f{i}" for i in range(10))
ROWS = 300


def days(seed: int, promoted: int, end: int, changed: int, jump: float, shown_only: frozenset[str] = frozenset()) -> list[tuple[int, Finding]]:
    """Ten features whose every day has a level of its own; from a day on the first one is higher. Findings with their day."""
    generator = np.random.default_rng(seed)
    fold = FeatureFold([FeatureColumn(name, "double") for name in NAMES])
    watch = ModelWatch(WatchSettings("m", "asked", NAMES, Binary(), 500, shown_only=shown_only))
    findings = []
    for day in range(end):
        level = generator.normal(0, 0.3, len(NAMES))
        level[0] += jump if day >= changed else 0.0
        columns = [pa.array(np.exp(generator.normal(one, 1.0, ROWS))) for one in level]
        if day == promoted:
            watch.promote("v1", 1, fold.seen(), fold.null, fold.daily, fold.scales())
        fold.absorb(pa.RecordBatch.from_arrays(columns, names=list(NAMES)))
        fold.close_day(day)
        if day >= promoted:
            shifts = shifts_of(watch.references["v1"], fold.window)
            findings += [(day, one) for one in watch.shifted(Coordinates(day, 0, day), shifts, tested=fold.has_window(day))]
    return findings


@pytest.mark.parametrize("seed", range(3))
def test_days_with_a_weather_of_their_own_do_not_warn(seed: int) -> None:
    assert not days(seed, 60, 150, 10**6, 0.0)


@pytest.mark.parametrize("seed", range(3))
def test_a_change_beyond_the_weather_warns_within_the_window(seed: int) -> None:
    findings = days(seed, 60, 110, 90, 2.5)
    assert [one.subject for _, one in findings] == ["f0"] and 90 <= findings[0][0] < 97
    evidence = findings[0][1].evidence
    assert findings[0][1].statistic > 1 and evidence["psi"] > 0.2 and {"js", "ks", "chi2", "log_e"} <= evidence.keys()


def test_what_moves_by_nature_is_shown_and_never_warns() -> None:
    assert not days(0, 60, 110, 90, 1.5, frozenset({"f0"}))


def test_below_thirty_windows_distribution_shift_is_no_warning() -> None:
    assert not days(0, 30, 60, 40, 3.0)


def test_the_null_is_each_windows_distance_from_what_came_before_it() -> None:
    generator = np.random.default_rng(1)
    fold, values = FeatureFold([FeatureColumn("c", "string")]), [[str(v) for v in generator.integers(0, 4, 400)] for _ in range(12)]
    for day, rows in enumerate(values):
        fold.absorb(pa.RecordBatch.from_pydict({"c": rows}))
        fold.close_day(day)
    expected = []
    for day in range(7, 12):
        parts = [[v for some in values[begin:end] for v in some] for begin, end in ((0, day - 6), (day - 6, day + 1))]
        count = [[part.count(str(level)) for level in range(4)] for part in parts]
        expected.append(population_stability_index(np.array([*count[0], 0, 0]), np.array([*count[1], 0, 0])))
    # The fold orders its bins by frequency: the index does not care.
    assert [row[0] for row in fold.null["c"]] == pytest.approx(expected, rel=1e-6)
    assert json.loads(json.dumps(fold.null)) == fold.null


def test_a_window_has_seven_days_or_two_thousand_rows_whichever_is_longer() -> None:
    fold = FeatureFold([FeatureColumn("x", "double")])
    for day in range(60):
        fold.absorb(pa.RecordBatch.from_pydict({"x": np.full(100 if day < 40 else 500, float(day))}))
        fold.close_day(day)
        span = 7 if day >= 46 else 20 if day < 40 else sum(np.cumsum([500] * (day - 39) + [100] * 40) < 2_000) + 1
        assert len(fold.ring) == min(day + 1, max(7, span)) and fold.has_window(day) == (day >= 19)
        assert fold.window["x"].rows == sum(one.rows for one in fold.ring)
    assert fold.seen()["x"].rows == 40 * 100 + 20 * 500


def test_evidence_grows_with_the_distance_and_nothing_is_known_without_windows() -> None:
    generator = np.random.default_rng(2)
    rows = np.abs(generator.normal(0.1, 0.02, (60, 4))).tolist()
    null = NullShifts.of({"a": rows, "new": rows[:29]})
    again = NullShifts.load(json.loads(json.dumps(null.snapshot())))
    evidence = [again.log_e({"a": Shift(value, value, value, value, 500), "new": Shift(9, 1, 1, 1, 500)}) for value in (0.1, 0.5, 1.0)]
    assert all(one.keys() == {"a"} for one in evidence)
    assert evidence[0]["a"] < 0 < evidence[1]["a"] < evidence[2]["a"]
    assert not NullShifts.of({}).log_e({"a": Shift(9, 1, 1, 1, 500)})


def test_many_distances_at_once_are_those_one_by_one() -> None:
    generator = np.random.default_rng(3)
    pairs = [(generator.integers(0, 50, width) + 1, generator.integers(0, 50, width)) for width in (2, 5, 12, 22)]
    together = distances([first for first, _ in pairs], [second for _, second in pairs], [True] * 4)
    for row, (first, second) in zip(together, pairs, strict=True):
        assert row[0] == pytest.approx(population_stability_index(first, second))
        assert row[1] == pytest.approx(jensenshannon(first, second, base=2))
        assert row[2] == pytest.approx(np.abs(np.cumsum(first / first.sum()) - np.cumsum(second / second.sum())).max())
        shares = np.array([first / first.sum(), second / second.sum()])
        assert row[3] == pytest.approx(chi2_contingency(shares, correction=False).statistic)
