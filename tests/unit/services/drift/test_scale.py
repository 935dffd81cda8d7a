"""What a champion's scale is held against: days before the window, so that a fault that has just begun hides nothing."""

import json

import numpy as np
import pyarrow as pa
import pytest

from tidemill.services.drift.domain.features import FeatureColumn, FeatureFold
from tidemill.services.drift.domain.scale import UsualScale, levels_of
from tidemill.shared.statistics.sketch import Sketch

FACTOR = 1.609344


def fold_after(days: int, broken: int) -> FeatureFold:
    """Vectors of so many days, the last of them in other units."""
    generator = np.random.default_rng(0)
    fold = FeatureFold([FeatureColumn("amount", "double"), FeatureColumn("country", "string")])
    for day in range(days):
        amount = generator.gamma(3.0, 200.0, 400) * (FACTOR if day >= days - broken else 1.0)
        fold.absorb(pa.RecordBatch.from_pydict({"amount": amount, "country": ["de"] * 400}))
        fold.close_day(day)
    return fold


@pytest.mark.parametrize("broken", [1, 3, 7])
def test_days_of_the_last_window_are_no_part_of_the_usual_scale(broken: int) -> None:
    healthy, usual = fold_after(40 - broken, 0).scales(), fold_after(40, broken).scales()
    assert list(usual) == ["amount"], "categories have no scale"
    assert usual["amount"].factor_log < np.log(FACTOR) / 1.5
    assert usual["amount"].levels == pytest.approx(healthy["amount"].levels, rel=0.03)


def test_what_has_lasted_for_longer_than_a_window_is_usual() -> None:
    assert fold_after(40, 10).scales()["amount"].factor_log > np.log(FACTOR)


def test_of_few_days_all_are_the_usual_scale() -> None:
    """Bounds of a handful of days would ring on days like any other."""
    young = fold_after(20, 0)
    figures, spreads = (young.daily["amount"][name] for name in ("factor_log", "spread"))
    assert young.scales()["amount"] == UsualScale.of(figures, levels_of(young.seen())["amount"], spreads)


def test_a_usual_scale_comes_back_from_its_state() -> None:
    usual = UsualScale.of([0.5, 0.5, 0.1, 0.3, 0.1, 0.2], levels_of({"amount": Sketch.of(np.arange(1.0, 90.0))})["amount"], [3.0, 1.0, 9.0])
    assert usual.factor_log == pytest.approx(0.45), "the oldest third is left out"
    assert usual.spread == 3.0
    assert UsualScale.load(json.loads(json.dumps(usual.snapshot()))) == usual
