"""A host's clock that is set for a while neither stops alerts nor hurries them."""

import pytest

from tests.unit.services.alerts.test_fold import EVENT, HOUR, fold, rule
from tidemill.services.alerts.alert_clock import AlertClock

NOW = 1_760_000_000_000


@pytest.mark.parametrize("hours", [5, 40, -5])
def test_a_clock_that_steps_for_a_minute_moves_alerts_by_that_minute(hours: int) -> None:
    wall, steady = NOW, 0
    clock = AlertClock(lambda: wall, lambda: steady)
    one = fold(rule("drifting", **EVENT))
    one.tick(clock.now_ms())
    for minutes, off in ((1, hours), (2, 0), (3, 0)):
        steady = minutes * 60_000
        wall = NOW + steady + off * HOUR
        one.tick(clock.now_ms())
        assert one.clock_ms == NOW + steady


def test_a_clock_that_is_set_right_is_followed_once_records_of_others_say_so() -> None:
    wall, steady = NOW, 0
    clock = AlertClock(lambda: wall, lambda: steady)
    clock.now_ms()
    wall = NOW + 2 * HOUR
    assert clock.now_ms() == NOW
    assert clock.now_ms([wall - 100, wall - 50]) == wall
