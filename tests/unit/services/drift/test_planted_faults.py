"""Faults planted into a generated stream: the right incident each time, and none where nothing is wrong."""

import pytest

from tests.planted_faults import EXPECTED, judged


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", EXPECTED)
def test_a_planted_fault_is_the_incident_that_it_is(name: str, seed: int) -> None:
    fault, expected = EXPECTED[name]
    missed, false = judged(fault, expected, seed)
    assert not missed
    assert len(false) <= (1 if expected else 0), false
