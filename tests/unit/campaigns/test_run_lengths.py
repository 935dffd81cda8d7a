"""The short form of ``make run-lengths``: about two million labels through the whole verdict on the loss."""

import numpy as np
import pytest

from campaigns.run_lengths import CHANGES, RATES, day_alarms, delays, false_alarms, flight_days


@pytest.mark.lasts(3)
def test_independent_labels_are_silent_for_long() -> None:
    """A verdict that rings once in 200,000 labels fails with a chance of 90 %, one that rings once in 2,000,000 with 2 %; the seed is fixed."""
    alarms = [
        one for number, rate in enumerate(RATES) for one in false_alarms(rate, 200_000, seed=40 + number, spread=number % 2 == 0, day_rows=20_000)
    ]
    assert len(alarms) <= 2, alarms


@pytest.mark.lasts(4)
@pytest.mark.parametrize(("change", "median", "nearly_all"), [(CHANGES[0], 180, 600), (CHANGES[1], 2_000, 6_000)])
def test_a_change_is_seen_within_promised_labels(change: tuple[float, float], median: float, nearly_all: float) -> None:
    rows = delays(*change, trials=40, seed=5, longest=7_000)
    assert np.median(rows) <= median
    assert np.mean(rows > nearly_all) <= 0.05, "40 streams tell 99 % from 95 % only"


@pytest.mark.lasts(5)
def test_days_of_the_flights_drawn_anew_are_silent_for_long() -> None:
    """At least 90 days between two alarms of a model that learned the days between, and none of one whose labels are drawn from its scores."""
    days = flight_days()
    assert 180 < len(days) < 185 and sum(len(score) for score, _ in days) > 150_000
    assert len(day_alarms(days, 900, seed=2)) <= 10
    assert not day_alarms(days, 300, seed=3, perfect=True)
