"""A task that is set aside waits twice as long each time, and nobody waits for longer than ten minutes."""

from dataclasses import replace

from tidemill.shared.runner.crash_log import Crash
from tidemill.shared.runner.suspensions import Suspensions

CRASH = Crash(2, {}, 3, 1, {}, "error", limit=5, low=0, high=3, trial=1, tries=1)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_each_wait_is_twice_the_one_before() -> None:
    clock, crash, waits = Clock(), CRASH, []
    suspensions = Suspensions(clock)
    for _ in range(30):
        waits.append(suspensions.wait_s(crash))
        crash = suspensions.begin(crash)
        assert suspensions.until_s(2) == clock.now_s + waits[-1]
    assert waits[:3] == [1.0, 2.0, 4.0] and waits[10:] == [600.0] * 20
    assert (crash.limit, crash.low, crash.high, crash.trial, crash.tries) == (0, -1, -1, -1, 0), "no search goes on"
    suspensions.end(2)
    assert suspensions.until_s(2) is None


def test_a_task_that_crashes_without_input_is_left_alone_for_its_wait_and_after_a_restart_for_half_of_the_next() -> None:
    clock = Clock()
    suspensions = Suspensions(clock)
    muted = suspensions.begin(replace(CRASH, muted=True))
    assert suspensions.mute_lasts(muted)
    clock.now_s += 1.0
    assert not suspensions.mute_lasts(muted)
    restarted = Suspensions(clock)
    assert restarted.mute_lasts(muted)
    clock.now_s += 1.0
    assert not restarted.mute_lasts(muted), "half of two seconds"
