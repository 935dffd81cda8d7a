"""Verdicts of a campaign that is ended and goes on."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from campaigns.promotions import _BEGIN_MS, NOTHING, Verdict, keep, read_kept, until_fault
from tests.planted_faults import DAY, FAULT


def test_a_campaign_goes_on_with_the_verdicts_that_it_kept(tmp_path: Path) -> None:
    file = tmp_path / "new" / "kept.jsonl"
    assert read_kept(file) == {}
    null = Verdict(56_000, 13, 12, 11, 1, 0, 0.0023, 1, 1, 2, 2, Counter({"range orders.temp": 2}))
    untouched = replace(NOTHING, rows=400, streams=1)
    keep(file, "null", 3, null)
    keep(file, "nothing", 0, untouched)
    kept = read_kept(file)
    assert kept == {("null", 3): null, ("nothing", 0): untouched}
    assert (NOTHING + kept["null", 3] + kept["nothing", 0]).roots == Counter({"range orders.temp": 2})


@pytest.mark.parametrize(
    ("made_day", "before", "expected"),
    [
        (FAULT - 3, [True, True, False], 0.015),
        (FAULT - 0.8, [False, False, False], 0.0),
        (FAULT - 20, [True, True, True], None),
        (FAULT, [False, False, False], None),
        (FAULT + 3, [False, False, False], None),
    ],
)
def test_a_promotion_decided_before_the_fault_is_judged_up_to_it(made_day: float, before: list[bool], expected: float | None) -> None:
    """One was decided twenty hours before the fault, and served from the next day on: it had no request before."""
    costs = np.array([0.01, 0.02, 0.09])
    assert until_fault(costs, np.array(before), round(_BEGIN_MS + made_day * DAY)) == (None if expected is None else pytest.approx(expected))
