"""Our ADWIN is river's, value for value, and its state can be written down."""

import json

import numpy as np
import pytest
from river import drift

from shared.statistics.adwin import Adwin


def _stream(seed: int) -> list[float]:
    generator = np.random.default_rng(seed)
    level = np.repeat(generator.uniform(0.1, 0.5, 6), 1500)
    values = generator.random(9000) < level if seed % 2 else np.clip(level + generator.normal(0, 0.2, 9000), 0, 1)
    return [float(value) for value in values]


@pytest.mark.parametrize("seed", range(6))
def test_equals_river(seed: int) -> None:
    values, theirs, found = _stream(seed), drift.ADWIN(delta=0.002), []  # type: ignore[no-untyped-call]
    for row, value in enumerate(values):
        theirs.update(value)  # type: ignore[no-untyped-call]
        if theirs.drift_detected:
            found.append((row, theirs.width, theirs.estimation))
    ours = Adwin(delta=0.002)
    assert [(change.row, change.width_after, change.mean_after) for change in ours.update(values)] == found
    assert len(found) >= 3
    assert (ours.width, ours.total, ours.variance) == (theirs.width, theirs.total, theirs.variance)


@pytest.mark.parametrize("cut", [0, 1, 31, 1500, 4321])
def test_a_saved_state_continues_exactly(cut: int) -> None:
    values = _stream(1)
    whole = Adwin()
    changes = whole.update(values)
    first = Adwin()
    before = first.update(values[:cut])
    second = Adwin()
    second.load(json.loads(json.dumps(first.snapshot())))
    after = second.update(values[cut:])
    assert [change.row for change in before] + [change.row + cut for change in after] == [change.row for change in changes]
    assert second == whole
