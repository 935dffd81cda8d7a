"""What is counted of values by slice, against a loop over rows."""

import math

import numpy as np
import pyarrow as pa
import pytest

from tidemill.services.drift.domain.shifts import Summary
from tidemill.services.drift.domain.value_counts import COUNTS, UNIT, add_values
from tidemill.shared.statistics.histogram import Tally
from tidemill.shared.statistics.sketch import Sketch

Cell = float | str | None


def by_row(value: Cell, reference: Summary | None) -> dict[str, int]:
    """What one value adds."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return {"missing": 1}
    if isinstance(value, str):
        return {"outside": int(isinstance(reference, Tally) and value not in reference.counts)}
    margin = 0.0 if not isinstance(reference, Sketch) else 0.1 * (reference.high - reference.low)
    outside = isinstance(reference, Sketch) and not reference.low - margin <= value <= reference.high + margin
    if value == 0 or math.isinf(value):
        return {"outside": int(outside)}
    log = float(np.log(abs(value)))
    rest = {"logs": 1, "negative": int(value < 0), "fractions": int(value != round(value))}
    return {"outside": int(outside), **rest, "log_sum": round(log * UNIT), "log_squares": round(log**2 * UNIT)}


@pytest.mark.parametrize("seed", range(5))
def test_sums_by_slice_are_those_of_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 200
    odd = [None, math.nan, 0.0, -0.0, math.inf, -math.inf, 1e300, -5e-324]
    columns: list[list[Cell]] = [
        [odd[int(rng.integers(len(odd)))] if rng.random() < 0.2 else float(np.round(rng.normal(3, 50), int(rng.integers(3)))) for _ in range(n)],
        [None if rng.random() < 0.1 else f"c{rng.integers(6)}" for _ in range(n)],
        [float(number) for number in rng.integers(1, 9, n)],
        ["same"] * n,
    ]
    references: list[Summary | None] = [Sketch.of(rng.normal(0, 30, 500)), Tally.of(["c0", "c1", "c2"]), None, None]
    if seed == 4:
        references = [None, None, Sketch.of(np.array([2.0, 7.0])), Tally.of(["other"])]
    arrays = [pa.array(one, pa.string() if number % 2 else pa.float64()) for number, one in enumerate(columns)]
    code = rng.integers(-1, 5, n)
    sums = {name: np.zeros((5, len(columns)), np.int64) for name in COUNTS}
    other = rng.integers(-1, 5, n)
    add_values(sums, np.stack([code, other], axis=1), arrays, references)
    expected = {name: np.zeros((5, len(columns)), np.int64) for name in COUNTS}
    for row in range(n):
        for place, column in enumerate(columns):
            for name, count in by_row(column[row], references[place]).items():
                for named in (code[row], other[row]):
                    if named >= 0:
                        expected[name][named, place] += count
    for name in COUNTS:
        assert sums[name].tolist() == expected[name].tolist(), name
