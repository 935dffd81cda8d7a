"""The steps of a search: as small as was asked for until they are past what is known, then growing; and when the search is over."""

from dataclasses import replace

import pytest

from tests.property.runner_tasks import records_of
from tests.unit.shared.runner.runners import INPUT
from tidemill.shared.log.records import Records
from tidemill.shared.runner.crash_log import EVERYTHING, Crash, span_of
from tidemill.shared.runner.forked_walk import SHARE
from tidemill.shared.runner.step_sizes import StepSizes

PLACE = f"{INPUT}:0"


def crash(**known: object) -> Crash:
    return replace(Crash(0, {PLACE: 0}, 3, 640, {PLACE: 639}, "error", limit=20), **known)  # type: ignore[arg-type]  # by name


def step(begin: int, count: int) -> list[Records]:
    return [records_of(INPUT, 0, [(begin + i, b"k", b"v") for i in range(count)])] if count else []


def grown(sizes: StepSizes, one: Crash, steps: int) -> list[int]:
    """Return the size after each of so many steps of one record."""
    after = []
    for number in range(steps):
        sizes.count_step(one, step(number, 1))
        after.append(sizes.of(one))
    return after


def test_steps_grow_once_there_were_more_than_the_crashed_one_had_of_this_size() -> None:
    assert grown(StepSizes(), crash(), SHARE + 2) == [20] * SHARE + [40, 80]


def test_steps_that_must_come_to_the_same_place_again_do_not_grow_before() -> None:
    assert grown(StepSizes(), crash(steady=SHARE + 3), SHARE + 4) == [20] * (SHARE + 2) + [40, 80]


def test_steps_that_children_have_survived_do_not_grow_and_empty_ones_do_not_count() -> None:
    sizes = StepSizes()
    sizes.set(0, 7)
    assert grown(sizes, crash(in_child=True), SHARE + 2) == [7] * (SHARE + 2)
    sizes.reset(0)
    assert sizes.of(crash()) == 20
    empty = StepSizes()
    for _ in range(2 * SHARE):
        empty.count_step(crash(), step(0, 0))
    assert empty.of(crash()) == 20


def test_behind_a_culprit_that_is_condemned_steps_grow_from_one_record_at_once() -> None:
    sizes = StepSizes()
    sizes.grow_from_one(0)
    assert sizes.of(crash()) == 1 and grown(sizes, crash(), 3) == [2, 4, 8]


def test_narrower_steps_begin_anew_and_those_that_had_grown_are_kept_small_for_longer() -> None:
    sizes = StepSizes()
    grown(sizes, crash(), SHARE + 2)
    narrower = sizes.narrow(crash(), 5)
    assert (narrower.limit, narrower.steady) == (5, 0) and sizes.of(narrower) == 5
    grown(sizes, narrower, 40)
    again = sizes.narrow(replace(narrower, records=100), 5)
    assert again.steady == 40 + 100, "what it was given, and the step that crashed"
    assert sizes.narrow(replace(again, records=1), 5).steady == 2 * 140
    assert sizes.narrow(crash(records=1), 20).steady == 2 * SHARE
    assert sizes.narrow(crash(limit=0), 5).steady == 0, "a search that begins"


@pytest.mark.parametrize(("last", "passed"), [(638, False), (639, True)])
def test_what_is_under_suspicion_is_passed_with_its_last_record(last: int, passed: bool) -> None:
    sizes = StepSizes()
    assert not sizes.has_passed(crash())
    sizes.reach(0, step(last, 1))
    assert sizes.has_passed(crash()) is passed
    sizes.forget_reached(0)
    assert not sizes.has_passed(crash())


def test_a_search_of_everything_ends_once_as_many_of_each_input_came_as_crashed() -> None:
    sizes, told = StepSizes(), "told:0"
    everything = crash(ends={EVERYTHING: 0}, records=4, most={PLACE: 3, told: 1, "broadcast:0": 1})
    for offset in range(9):
        sizes.count_step(everything, [records_of("told", 0, [(offset, None, b"v")])])
    assert not sizes.has_drained(everything, {PLACE, told}), "records of one input say nothing of another's"
    for _ in range(2):
        sizes.count_step(everything, step(0, 2))
    assert not sizes.has_drained(everything, {PLACE, told}) and not sizes.has_passed(everything), "each counts once"
    sizes.count_step(everything, step(2, 1))
    assert sizes.has_drained(everything, {PLACE, told}) and not sizes.has_drained(crash(most=everything.most), {PLACE, told})
    assert not sizes.has_drained(everything, {PLACE, told, "broadcast:0"})
    sizes.forget(0)
    assert not sizes.has_drained(everything, {PLACE, told})


def test_a_step_has_at_most_as_many_records_of_an_input_as_its_offsets_leave_room_for() -> None:
    runs = [records_of("t", 0, [(5, None, b"v"), (8, None, b"v")]), records_of("u", 1, [(7, None, b"v")])]
    assert span_of(runs).most == {"t:0": 3, "u:1": 1}
