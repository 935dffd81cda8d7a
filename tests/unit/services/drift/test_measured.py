"""Which columns have units, a range and categories to be held against, for the whole and in slices."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tests.unit.services.drift.stream import APP, shop
from tidemill.services.drift.domain.broken_values import BrokenValues
from tidemill.services.drift.domain.conditions import Conditions
from tidemill.services.drift.domain.data_quality import QualityBounds
from tidemill.services.drift.domain.findings import Coordinates
from tidemill.services.drift.domain.scale import UsualScale, levels_of
from tidemill.services.drift.domain.shifts import Summary
from tidemill.services.drift.domain.slice_values import SliceValues
from tidemill.services.drift.domain.slice_watch import SliceWatch
from tidemill.services.drift.domain.watch_settings import WatchSettings
from tidemill.services.drift.task import watch_settings
from tidemill.shared.application.lineage import lineage_of
from tidemill.shared.application.planning import load_plan
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.statistics.sketch import Sketch

Float64 = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Float64]
MILES = 1.609344
AT = Coordinates(0, 0, 0)


def weekdays(generator: np.random.Generator, rows: int) -> Float64:
    return generator.integers(1, 4, rows).astype(np.float64)


def small_counts(generator: np.random.Generator, rows: int) -> Float64:
    return generator.integers(5, 31, rows).astype(np.float64)


def winds(generator: np.random.Generator, rows: int) -> Float64:
    """Whole knots, as miles per hour: 35 values with fractions."""
    return np.asarray(generator.integers(3, 38, rows) * 1.15078, np.float64)


def speeds(generator: np.random.Generator, rows: int) -> Float64:
    return generator.lognormal(2.0, 0.5, rows)


CASES: list[tuple[Draw, Callable[[Float64], Float64], bool]] = [
    (weekdays, lambda values: values * MILES, False),
    (weekdays, lambda values: values * 10, False),
    (small_counts, lambda values: np.rint(values * MILES), False),
    (small_counts, lambda values: values * MILES, True),
    (winds, lambda values: values * MILES, True),
    (speeds, lambda values: values * MILES, True),
    (speeds, lambda values: np.rint(values * 100), True),
]


def told_of_the_whole(reference: Sketch, day: Sketch, unbounded: frozenset[str] = frozenset()) -> list[str]:
    before: dict[str, Summary] = {"column": reference}
    usual = {"column": UsualScale.of([], levels_of(before)["column"])}
    values = BrokenValues("v1", before, {"column": QualityBounds(0.0, 0.0, 0.05)}, usual, 100, 0.1, unbounded)
    return [one.kind for one in values.look(AT, Conditions("m"), {"column": day}, {}, frozenset())]


@pytest.mark.parametrize(("draw", "broken", "is_told"), CASES)
def test_few_whole_numbers_that_stay_whole_have_no_units(draw: Draw, broken: Callable[[Float64], Float64], is_told: bool) -> None:
    generator = np.random.default_rng(0)
    kinds = told_of_the_whole(Sketch.of(draw(generator, 5_000)), Sketch.of(broken(draw(generator, 2_000))))
    assert ("units" in kinds) == is_told
    assert kinds, "what has no units is beyond its range"


@pytest.mark.parametrize(("draw", "broken", "is_told"), CASES)
def test_a_slice_has_units_where_the_whole_has(draw: Draw, broken: Callable[[Float64], Float64], is_told: bool) -> None:
    generator = np.random.default_rng(1)
    settings = WatchSettings("m", "orders", ("column",), Binary(), 500, slices=("country",))
    watch, values = SliceWatch(settings), SliceValues(("column",), 1)
    usual = {"column": QualityBounds(0.0, 0.0, 0.05)}
    days = [draw(generator, 120) for _ in range(10)]
    # Of all rows, the broken values were seen in another slice.
    reference: dict[str, Summary] = {"column": Sketch.of(np.concatenate([*days, broken(draw(generator, 40)) if draw is weekdays else days[0]]))}
    bounds = watch._bounds(reference, usual)
    codes = np.zeros((120, 1), np.int64)
    measures = []
    for day, column in enumerate([*days, broken(draw(generator, 120))]):
        if day == len(days):
            values.promote()
        values.absorb(pa.RecordBatch.from_pydict({"column": column}), codes, reference)
        values.settle(reference)
        measures = values.close(bounds, ())
    assert ("units" in {one.kind for one in measures if one.statistic > one.bound}) == is_told


def test_a_mended_column_has_no_units_any_more() -> None:
    """What lasts ends: whole numbers that came with fractions are whole again."""
    generator = np.random.default_rng(2)
    reference = Sketch.of(small_counts(generator, 5_000))
    before: dict[str, Summary] = {"column": reference}
    values = BrokenValues(
        "v1", before, {"column": QualityBounds(0.0, 0.0, 0.05)}, {"column": UsualScale.of([], levels_of(before)["column"])}, 100, 0.1
    )
    conditions, kinds = Conditions("m"), []
    for factor in (MILES, 1.0, 1.0, 1.0, MILES):
        day = {"column": Sketch.of(small_counts(generator, 2_000) * factor)}
        kinds.append([one.kind for one in values.look(AT, conditions, day, {}, frozenset())])
    assert [("units" in some) for some in kinds] == [True, False, False, False, True]


def test_what_comes_with_time_has_neither_range_nor_units() -> None:
    january, february = Sketch.of(np.full(3_000, 1.0)), Sketch.of(np.full(300, 2.0))
    assert told_of_the_whole(january, february) == ["range"]
    assert told_of_the_whole(january, february, frozenset({"column"})) == []
    empty = Sketch.of(np.full(300, np.nan))
    assert told_of_the_whole(january, empty, frozenset({"column"})) == ["missing"]


@pytest.mark.parametrize(
    ("name", "is_calendar"),
    [
        *(
            (name, True)
            for name in ("month", "weekday", "sched_hour", "local_minute", "dayOfWeek", "hour_of_day", "ISO_WEEK", "month_nr", "DayofMonth")
        ),
        *((name, False) for name in ("day_charge", "total_day_minutes", "week_sales", "calls_per_day", "price", "birthday")),
    ],
)
def test_a_part_of_the_calendar_is_known_by_the_end_of_its_name(name: str, is_calendar: bool, tmp_path: Path) -> None:
    shop(tmp_path)
    for file in ("order.avsc", "app.yaml"):
        (tmp_path / file).write_text((tmp_path / file).read_text().replace("weight", name))
    plan = load_plan(tmp_path)
    assert (lineage_of(plan)[name].behaviour == "calendar") == is_calendar
    own = watch_settings(plan.models["sent_back"], lineage_of(plan))
    assert own.unbounded == (frozenset({name}) if is_calendar else frozenset())


def test_a_date_is_shown_and_compared_but_has_no_range(tmp_path: Path) -> None:
    derived = 'event_time: placed, derive: {due: "CAST(placed AS DATE)"}}'
    plan = shop(tmp_path, APP.replace("weight, country", "due, country").replace("event_time: placed}", derived))
    own = watch_settings(plan.models["sent_back"], lineage_of(plan))
    assert own.dates == own.unbounded == frozenset({"due"})


def test_what_requests_share_has_no_units_in_a_slice() -> None:
    """A hundred requests may have seen three hours of weather."""
    plan = load_plan(Path(__file__).parents[4] / "examples" / "flights")
    own = watch_settings(plan.models["late_arrival"], lineage_of(plan))
    assert {"weather__wind_speed", "route_delay__mean_7d"} <= own.shared and not {"distance", "seats"} & own.shared
    bounds = SliceWatch(own)._bounds({}, {})
    assert {"weather__wind_speed", "route_delay__mean_7d", "weekday", "dest_late__mean_all"} <= bounds.without_units
    assert "distance" not in bounds.without_units
