import numpy as np
import pytest

from tidemill.shared.runner.clock_steps import DAY_MS, HostClock

NOW, HOUR = 1_760_000_000_000, 3_600_000
NOTHING = np.empty(0, np.int64)


def test_follows_a_clock_that_goes_and_is_slewed() -> None:
    clock = HostClock(10_000)
    for i, wall in enumerate([NOW, NOW + 1_000, NOW + 9_000, NOW + 8_000]):
        assert clock.read(wall, 1_000 * i, NOTHING) == (wall, None)


@pytest.mark.parametrize("step", [HOUR, DAY_MS, 70 * 365 * DAY_MS, -2 * HOUR, -50 * 365 * DAY_MS])
def test_goes_on_by_the_steady_clock_after_a_step_and_says_so_once_a_minute(step: int) -> None:
    clock, said = HostClock(10_000), 0
    clock.read(NOW, 0, NOTHING)
    for second in range(1, 121):
        now, correction = clock.read(NOW + step + 1_000 * second, 1_000 * second, np.array([NOW + 1_000 * second]))
        assert now == NOW + 1_000 * second
        said += correction is not None
        assert correction is None or (not correction.followed and abs(correction.step_ms - step) < 1_000)
    assert said == 2
    assert clock.read(NOW + 121_000, 121_000, NOTHING) == (NOW + 121_000, None)


def test_follows_a_forward_step_that_the_records_confirm_up_to_a_day() -> None:
    for step, followed in ((HOUR, True), (DAY_MS, True), (DAY_MS + 1, False)):
        clock = HostClock(10_000)
        clock.read(NOW, 0, NOTHING)
        now, correction = clock.read(NOW + step, 0, np.array([NOW + step, NOW + step, NOW]))
        assert correction is not None and correction.followed is followed
        assert now == (NOW + step if followed else NOW)


def test_follows_a_short_step_back() -> None:
    clock = HostClock(10_000)
    clock.read(NOW, 0, NOTHING)
    now, correction = clock.read(NOW - HOUR, 0, NOTHING)
    assert now == NOW - HOUR and correction is not None and correction.followed


def test_without_a_steady_clock_only_what_no_run_can_mean_is_kept_out() -> None:
    clock = HostClock(10_000)
    clock.read(NOW, None, NOTHING)
    assert clock.read(NOW + 30 * DAY_MS, None, NOTHING)[0] == NOW + 30 * DAY_MS
    assert clock.read(NOW, None, NOTHING)[0] == NOW + 30 * DAY_MS
    assert clock.read(NOW + 1_000 * DAY_MS, None, NOTHING)[0] == NOW + 30 * DAY_MS
