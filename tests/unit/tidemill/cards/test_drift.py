"""How far features have moved, against a plain computation."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from tests.unit.services.retraining.test_job import BEGIN_MS, DAY_MS, World
from tidemill.cards.drift import moved


def plain_psi(before: NDArray[np.float64], since: NDArray[np.float64]) -> float:
    """Tenths of what was before, missing values apart, no share below a ten-thousandth."""
    edges = np.quantile(before[~np.isnan(before)], [tenth / 10 for tenth in range(1, 10)])
    shares = []
    for values in (before, since):
        counts = [0] * 12
        for value in values:
            counts[11 if np.isnan(value) else sum(value > edge for edge in edges)] += 1
        shares.append([max(1e-4, count / len(values)) for count in counts])
    return float(sum((b - a) * np.log(b / a) for a, b in zip(*shares, strict=True)))


def test_the_feature_that_moved_comes_first_and_by_how_much(tmp_path: Path) -> None:
    world = World(tmp_path)
    late = world.times >= BEGIN_MS + 40 * DAY_MS
    amount = world.features.column("amount").to_numpy(zero_copy_only=False)
    shifted = np.where(late, amount + 1.0, amount).astype(np.float32)
    world.features = world.features.set_column(0, "amount", pl.Series(shifted).to_arrow())
    world.archive(80)
    middle, end = BEGIN_MS + 40 * DAY_MS, BEGIN_MS + 80 * DAY_MS
    moves = moved(world.lake, ("country", "amount", "weight"), "orders", (0, middle), (middle, end))
    assert moves[0].feature == "amount" and {one.feature for one in moves[1:]} == {"country", "weight"}
    assert moves[0].psi == pytest.approx(plain_psi(shifted[~late].astype(float), shifted[late].astype(float)), rel=1e-6) and moves[0].psi > 0.2
    by_name = {one.feature: one for one in moves}
    assert by_name["country"].psi < 0.05 and (by_name["weight"].before, by_name["weight"].since, by_name["weight"].psi) == (1.0, 1.0, 0.0)
    assert moved(world.lake, ("amount",), "orders", (0, BEGIN_MS), (middle, end)) == [], "nothing was learned then"
