import numpy as np

from tidemill.services.ingestion.domain.availability_merge import AvailabilityMerge, ReleasedRecords

NOBODY, EVERYBODY = np.zeros(2, np.bool_), np.ones(2, np.bool_)


def add(merge: AvailabilityMerge, source: int, *times: int, heartbeats: bool = False) -> None:
    merge.add(source, np.array(times, np.int64), np.full(len(times), heartbeats))


def order(released: ReleasedRecords) -> list[tuple[int, int]]:
    return list(zip(released.source.tolist(), released.time_ms.tolist(), strict=True))


def test_nothing_is_released_before_every_input_has_promised_to_be_past_it() -> None:
    merge = AvailabilityMerge(2)
    add(merge, 0, 1, 5, 9)
    assert order(merge.release(NOBODY)) == []
    add(merge, 1, 4)
    assert order(merge.release(NOBODY)) == [(0, 1), (1, 4)]
    add(merge, 1, 9)
    assert order(merge.release(NOBODY)) == [(0, 5), (0, 9)]


def test_ties_go_by_the_order_of_the_inputs() -> None:
    merge = AvailabilityMerge(2)
    add(merge, 1, 5)
    add(merge, 0, 5)
    assert order(merge.release(NOBODY)) == [(0, 5)], "input 0 may still bring another record of the same instant"
    add(merge, 0, 6)
    assert order(merge.release(NOBODY)) == [(1, 5)]


def test_a_heartbeat_comes_after_all_records_of_its_instant() -> None:
    merge = AvailabilityMerge(2)
    add(merge, 0, 5, heartbeats=True)
    add(merge, 1, 5)
    assert order(merge.release(NOBODY)) == [(1, 5)], "the heartbeat waits until input 1 is past the instant"
    add(merge, 1, 5, heartbeats=True)
    released = merge.release(NOBODY)
    assert order(released) == [(0, 5)]
    assert released.heartbeat.all()


def test_an_input_at_its_end_holds_nobody_back_in_a_live_run() -> None:
    merge = AvailabilityMerge(2)
    add(merge, 0, 5)
    assert order(merge.release(np.array([False, True]))) == [(0, 5)]
    add(merge, 0, 7)
    add(merge, 1, 3)
    assert order(merge.release(EVERYBODY)) == [(1, 3), (0, 7)]


def test_time_that_runs_backwards_keeps_its_place_in_the_input_and_is_counted() -> None:
    merge = AvailabilityMerge(2)
    add(merge, 0, 10, 4)
    add(merge, 0, 8, 11)
    add(merge, 1, 9, 12)
    assert order(merge.release(NOBODY)) == [(1, 9), (0, 10), (0, 4), (0, 8), (0, 11)]
    assert merge.inversions == 2


def test_counts_say_how_many_of_each_input_went() -> None:
    merge = AvailabilityMerge(2)
    add(merge, 0, 1, 2, 3)
    add(merge, 1, 2, 4)
    assert merge.release(NOBODY).counts.tolist() == [3, 1]
    assert merge.release(NOBODY).counts.tolist() == [0, 0]
