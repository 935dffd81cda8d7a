"""Units, missing values and streams are held against their own windows: quiet while nothing happens, right when something does."""

import json

import numpy as np
import pytest

from tidemill.services.drift.domain.data_quality import QualityBounds, quantiles
from tidemill.services.drift.domain.scale import Scale, levels_of, scales
from tidemill.services.drift.domain.stream_quality import StreamKind, StreamQuality
from tidemill.shared.statistics.sketch import Sketch


def scale(reference: Sketch, current: Sketch) -> Scale | None:
    """Of one column."""
    return scales(levels_of({"column": reference}), levels_of({"column": current})).get("column")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("factor", "words"), [(1.609344, "miles"), (1 / 1.609344, "miles"), (100.0, "cents"), (1 / 1000, "thousandths"), (60.0, "minutes")]
)
def test_a_scale_factor_is_known_by_all_quantiles(seed: int, factor: float, words: str) -> None:
    generator = np.random.default_rng(seed)
    change = scale(Sketch.of(generator.gamma(3.0, 200.0, 5000)), Sketch.of(generator.gamma(3.0, 200.0, 2000) * factor))
    assert change is not None and words in change.units and change.factor == pytest.approx(factor, rel=0.05)


def test_degrees_are_a_line_and_no_factor() -> None:
    generator = np.random.default_rng(1)
    celsius, other = generator.normal(12, 8, 3000), generator.normal(12, 8, 1000)
    there, back = scale(Sketch.of(celsius), Sketch.of(1.8 * other + 32)), scale(Sketch.of(1.8 * celsius + 32), Sketch.of(other))
    assert there is not None and there.units == "degrees Celsius to Fahrenheit"
    assert back is not None and back.units == "degrees Fahrenheit to Celsius"


def test_what_moves_otherwise_is_no_change_of_units() -> None:
    generator = np.random.default_rng(2)
    reference = generator.gamma(3.0, 200.0, 5000)
    for current in (reference[:1000], generator.gamma(3.0, 200.0, 1000) + 500, generator.gamma(9.0, 107.0, 1000), generator.gamma(3.0, 260.0, 1000)):
        change = scale(Sketch.of(reference), Sketch.of(current))
        assert change is not None and not change.units
    assert scale(Sketch.of(np.ones(50)), Sketch.of(np.full(50, 100.0))) is None, "a constant has no quantiles to tell by"
    assert scale(Sketch.of(np.array([np.nan])), Sketch.of(reference)) is None


@pytest.mark.parametrize("seed", range(3))
def test_quantiles_of_a_sketch_are_those_of_its_values_to_a_cell(seed: int) -> None:
    values = np.random.default_rng(seed).normal(10, 20, 3000)
    cells = quantiles(Sketch.of(values), (0.1, 0.5, 0.9))
    assert cells is not None
    assert cells == pytest.approx(np.quantile(values, [0.1, 0.5, 0.9], method="inverted_cdf"), rel=0.05)


def test_missing_shares_are_held_against_the_shares_of_the_references_windows() -> None:
    generator = np.random.default_rng(3)
    wild = QualityBounds.of({"missing": generator.uniform(0.2, 0.9, 40).tolist()}, 0.5, 0.05)
    calm = QualityBounds.of({"missing": [1.0] * 13 + generator.uniform(0.02, 0.03, 27).tolist()}, 0.3, 0.05)
    assert calm.missing_high == 0.3, "the reference's own share is usual; the windows in which a view was filling are not"
    distance, bound = wild.missing(0.95, 500, 0.1)
    assert distance < bound, "such days came before"
    distance, bound = calm.missing(0.95, 500, 0.1)
    assert distance > bound


def figures(generator: np.random.Generator, day: int) -> dict[StreamKind, float]:
    usual = 900 * (0.2 if day % 7 == 6 else 1.0)
    return {
        "volume": float(generator.poisson(usual)), "labels": float(generator.poisson(usual * 0.9)),
        "freshness": 1e3 * float(generator.lognormal(0, 0.3)),
        "label_delay": 7.2e6 * float(generator.lognormal(0, 0.2)), "label_share": float(generator.binomial(900, 0.97)) / 900,
    }  # fmt: skip


def course(seed: int, days: int, fault: dict[StreamKind, float], begins: int) -> list[tuple[int, StreamKind]]:
    generator, one, changes = np.random.default_rng(seed), StreamQuality(), list[tuple[int, StreamKind]]()
    for day in range(days):
        values = figures(generator, day)
        values |= {kind: values[kind] * factor for kind, factor in fault.items()} if day >= begins else {}
        changes += [(day, measure.kind) for measure in one.close(day, values) if measure.distance > measure.bound]
        one = StreamQuality.load(json.loads(json.dumps(one.snapshot())))
    return changes


@pytest.mark.parametrize("seed", range(20))
def test_a_stream_with_quiet_sundays_says_nothing(seed: int) -> None:
    assert not course(seed, 120, {}, 0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("kind", "factor"), [("volume", 0.1), ("volume", 8.0), ("labels", 0.0), ("label_delay", 12.0), ("label_share", 0.6), ("freshness", 5000.0)]
)
def test_what_changes_is_told_on_the_first_day_and_as_long_as_it_lasts(seed: int, kind: StreamKind, factor: float) -> None:
    changes = course(seed, 60, {kind: factor}, 50)
    assert changes == [(day, kind) for day in range(50, 60)]


def test_a_new_level_is_usual_after_four_weeks() -> None:
    changes = course(1, 150, {"volume": 0.1}, 50)
    assert [day for day, _ in changes] == list(range(50, 78))
