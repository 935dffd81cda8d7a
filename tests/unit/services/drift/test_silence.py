"""A stream that goes silent is told by the hour; nights, Sundays and slow streams are none."""

import json

import numpy as np
import pytest

from tidemill.services.drift.domain.silence import Pause, Silence


def course(seed: int, days: int, per_hour: float, *, until_hour: int = 24, begins: int = 10**6) -> list[tuple[int, Pause]]:
    """Shops that are closed at night and on Sundays; from a day on nothing comes after an hour."""
    generator, one, pauses = np.random.default_rng(seed), Silence(), list[tuple[int, Pause]]()
    for day in range(days):
        is_open = np.array([6 <= hour < 22 and day % 7 != 6 and not (day >= begins and hour >= until_hour) for hour in range(24)])
        pause = one.close(day, (generator.poisson(per_hour, 24) * is_open).tolist())
        pauses += [(day, pause)] if pause is not None and pause.is_silent else []
        one = Silence.load(json.loads(json.dumps(one.snapshot())))
    return pauses


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("per_hour", [0.3, 3.0, 60.0])
def test_nights_and_sundays_are_no_silence(seed: int, per_hour: float) -> None:
    assert not course(seed, 120, per_hour)


def test_what_stops_within_a_day_is_told_with_its_hour_and_is_usual_after_four_weeks() -> None:
    pauses = course(0, 100, 60.0, until_hour=12, begins=56)
    first = pauses[0]
    assert first[0] == 56 and first[1].hour == 12 and first[1].hides_volume
    assert abs(first[1].usual_after - 600) < 60 and abs(first[1].usual_before - 360) < 40
    assert max(day for day, _ in pauses) < 56 + 36


def test_few_rows_until_the_end_are_a_low_volume_and_no_silence() -> None:
    one, generator = Silence(), np.random.default_rng(1)
    for day in range(20):
        one.close(day, generator.poisson(40, 24).tolist())
    pause = one.close(20, [0] * 9 + [3] + [0] * 14)
    assert pause is not None and pause.is_silent and not pause.hides_volume
