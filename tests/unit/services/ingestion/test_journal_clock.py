import numpy as np

from tidemill.services.ingestion.domain.journal_clock import JournalClock


def advance(clock: JournalClock, *items: tuple[int, str]) -> tuple[list[int], list[bool]]:
    times = np.array([time for time, _ in items], np.int64)
    kinds = np.array([kind for _, kind in items])
    given, ticks = clock.advance(times, kinds == "accepted", kinds == "heartbeat")
    return given.tolist(), ticks.tolist()


def test_journal_time_never_runs_backwards() -> None:
    clock = JournalClock()
    assert advance(clock, (5, "accepted"), (3, "accepted"), (7, "accepted"))[0] == [5, 5, 7]
    assert advance(clock, (6, "accepted"))[0] == [7]


def test_one_tick_for_an_instant_whoever_sends_it() -> None:
    clock = JournalClock()
    assert advance(clock, (5, "heartbeat"), (5, "heartbeat"), (6, "heartbeat"))[1] == [True, False, True]
    assert advance(clock, (6, "heartbeat"), (7, "heartbeat"))[1] == [False, True]


def test_what_does_not_enter_the_journal_moves_nothing() -> None:
    clock = JournalClock()
    assert advance(clock, (9, "rejected"), (5, "accepted"))[0] == [9, 5]
    assert clock.time_ms == 5


def test_a_tick_covers_its_instant_and_a_record_only_what_came_before() -> None:
    clock = JournalClock()
    assert clock.covered_ms == -1
    advance(clock, (5, "accepted"))
    assert clock.covered_ms == 4
    advance(clock, (5, "heartbeat"))
    assert clock.covered_ms == 5


def test_a_late_tick_is_raised_to_the_journal() -> None:
    clock = JournalClock()
    advance(clock, (10, "accepted"))
    assert advance(clock, (8, "heartbeat")) == ([10], [True])
    assert advance(clock, (9, "heartbeat"))[1] == [False]
    assert clock.tick(3) == 10
    assert clock.tick(30) == 30


def test_the_journal_restores_the_clock() -> None:
    clock = JournalClock()
    advance(clock, (5, "accepted"), (6, "heartbeat"), (7, "accepted"))
    again = JournalClock()
    again.remember(6, 6)
    again.remember(7, None)
    assert (again.time_ms, again.tick_ms) == (clock.time_ms, clock.tick_ms)
