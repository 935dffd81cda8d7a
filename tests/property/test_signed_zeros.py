"""Zeros have a sign: after rows have left a window its figures have that of a recomputation from the rows that remain, too.

Not so a minimum or maximum of zeros of both signs, of which one came out of order: the first to come is told as long as none has left, then that of
the earliest event. They are equal, and neither batching nor restarts change the bits (`test_extreme_values`).
"""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.feature_oracle import FeatureOracle, Seen
from tests.long_forms import examples
from tests.property.test_feature_engine import PLAN, as_batch
from tidemill.services.features.domain.core import FeaturesCore

START = 1_700_000_000_000
VALUES = [
    [0.0, -0.0, 1.0, -1.0, 2.5, -2.5],
    [0.0, -0.0, 5e-324, -5e-324, 1e-310, 1.0],
    [0.0, -0.0, 1e308, -1e308, 1e16, -1e16, 0.1, -0.1],
    [-0.0, -0.0, -0.0, 3.0, -5e-324],
]


@pytest.mark.parametrize("values", VALUES, ids=["ordinary", "denormal", "huge", "mostly negative zeros"])
@settings(max_examples=examples(2), deadline=None)
@given(seed=st.integers(0, 100_000), disorder=st.booleans())
def test_a_zero_has_the_sign_that_the_remaining_rows_give_it(values: list[float], seed: int, disorder: bool) -> None:
    rng = np.random.default_rng(seed)
    journal, now = list[Seen](), START
    for i in range(40):
        now += int(rng.choice([500, 7_000, 30_000, 400_000], p=[0.3, 0.4, 0.25, 0.05]))
        behind = int(rng.choice([0, 20_000, 119_000], p=[0.7, 0.2, 0.1])) if disorder else 0
        fields: dict[str, object] = {"payment": f"p{i}", "account": "a", "merchant": "m", "amount": float(rng.choice(values))}
        journal.append(Seen("payments", 2 * i, now, now - behind, False, fields))
    told, oracle = FeaturesCore(PLAN).process(as_batch(journal)).to_pydict(), FeatureOracle(journal)
    (view,) = (view for view in PLAN.views if view.name == "exact")
    for row in rng.choice(np.arange(10, 40), 3, replace=False).tolist():
        again: dict[tuple[int, ...], dict[str, list[Any]]] = {}
        for aggregate in view.aggregates:
            if aggregate.window is None or aggregate.kind in ("count", "rate", "distinct", "ratio"):
                continue
            before, request = journal[:row], journal[row]
            past = aggregate.kind in ("difference", "zscore")
            inside = oracle._window(view, aggregate.window, before if past else [*before, request], request.now)
            remaining = [*(record for record in inside if record is not request), request]
            key = tuple(record.offset for record in remaining)
            if key not in again:
                again[key] = FeaturesCore(PLAN).process(as_batch(remaining)).to_pydict()
            got, truth = told[aggregate.feature][row], again[key][aggregate.feature][-1]
            if got == 0.0 and truth == 0.0 and not (disorder and aggregate.kind in ("min", "max")):
                assert math.copysign(1, got) == math.copysign(1, truth), (aggregate.feature, row, [record.fields["amount"] for record in remaining])
