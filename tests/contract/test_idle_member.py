"""A member of a group that nothing comes for costs the broker little: on a broker that librdkafka mocks, which counts the requests."""

import time

from tests.kafka_mock import FETCH, Mock
from tests.patience import patient
from tidemill.shared.kafka.broker import KafkaBroker

WATCHED_S = 2.0


def test_a_member_that_waits_for_records_asks_for_them_four_times_a_second() -> None:
    """At ten times a second, nine idle members took nine hundredths of a core of their broker; now they take six."""
    mock = Mock()
    source = KafkaBroker(mock.address).source("group", "0")
    try:
        source.subscribe(["out"])
        deadline = time.monotonic() + patient(30)
        while not source.assignment.partitions:
            source.consume(1, 0.05)
            assert time.monotonic() < deadline, "the member was assigned nothing"
        source.assign(dict.fromkeys(source.assignment.partitions, 0))
        while set(source.caught_up) != set(source.assignment.partitions):
            source.consume(10, 0.05)
            assert time.monotonic() < deadline, f"read to the end of {sorted(source.caught_up)} only"
        mock.begin_counting()
        begun = time.monotonic()
        while time.monotonic() < begun + WATCHED_S:
            assert source.consume(10, 0.05) == []
        asked, lasted_s = mock.counted(FETCH), time.monotonic() - begun
    finally:
        source.close()
    assert 1 <= asked <= 5 * lasted_s + 1, (asked, lasted_s)
