"""Schedules: durations and cron expressions, next instants held to a walk over minutes, and what is refused."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.unit.services.drift.stream import APP, shop
from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.schedule import next_instant, parse_schedule, usual_interval_ms

HOUR_MS = 3_600_000
# Each expression beside a plain condition on the minute.
KNOWN: dict[str, Callable[[datetime], bool]] = {
    "0 3 * * 1": lambda at: (at.weekday(), at.hour, at.minute) == (0, 3, 0),
    "30 */6 * * *": lambda at: (at.hour % 6, at.minute) == (0, 30),
    "0 0 1 * *": lambda at: (at.day, at.hour, at.minute) == (1, 0, 0),
    "15 2 * 3 MON-FRI": lambda at: at.month == 3 and at.weekday() < 5 and (at.hour, at.minute) == (2, 15),
}


@pytest.mark.parametrize("text", KNOWN)
def test_the_next_instant_is_the_first_minute_after_that_the_expression_names(text: str) -> None:
    # Over the night in which Europe and America have other offsets: UTC has no such hour.
    at = datetime(2024, 2, 27, 3, 0, tzinfo=UTC)
    schedule = parse_schedule(text)
    for _ in range(4):
        walked = at + timedelta(minutes=1)
        while not KNOWN[text](walked):
            walked += timedelta(minutes=1)
        instant = next_instant(schedule, round(at.timestamp() * 1000))
        assert instant == round(walked.timestamp() * 1000)
        at = walked


def test_a_duration_counts_from_the_last_request_and_milliseconds_are_no_minute_of_their_own() -> None:
    assert parse_schedule("7d") == 7 * 24 * HOUR_MS and next_instant(7 * 24 * HOUR_MS, 5) == 7 * 24 * HOUR_MS + 5
    assert (
        next_instant("0 * * * *", HOUR_MS - 1) == HOUR_MS
        and next_instant("0 * * * *", HOUR_MS) == next_instant("0 * * * *", HOUR_MS + 1) == 2 * HOUR_MS
    )
    assert usual_interval_ms("0 3 * * 1") == 7 * 24 * HOUR_MS and usual_interval_ms(12) == 12


def test_a_calendar_ends_where_dates_end() -> None:
    """A request of the year 10,000 ended control with an OverflowError."""
    assert next_instant("0 3 * * 1", 253_402_300_800_000) is None is next_instant("0 3 29 2 *", 2**62)
    assert next_instant("0 3 * * 1", -(2**62)) == -62_135_586_000_000


@pytest.mark.parametrize(
    "text", ["*/5 * * * *", "0,59 * * * *", "0 0 31 2 *", "61 * * * *", "0 3 * *", "0 3 * * 1 *", "@daily", "every monday", "", 5, None]
)
def test_what_is_no_schedule_is_refused_with_an_example(text: object) -> None:
    with pytest.raises(ValueError, match=r'a duration such as 30d, or a cron expression of five fields in UTC such as "0 3 \* \* 1"'):
        parse_schedule(text)


def test_an_application_says_the_line_of_what_is_no_schedule_and_keeps_one_that_is(tmp_path: Path) -> None:
    def with_schedule(name: str, text: str) -> int | str | None:
        (tmp_path / name).mkdir()
        own = APP.replace("{bootstrap_labels: 500}", f"{{bootstrap_labels: 500, schedule: {text}}}")
        return shop(tmp_path / name, own).models["sent_back"].settings.retraining.schedule

    with pytest.raises(ApplicationError, match=r'app\.yaml:\d+.*such as "0 3 \* \* 1" \(Mondays at 3:00\)'):
        with_schedule("often", '"*/5 * * * *"')
    assert with_schedule("weekly", '"0 3 * * 1"') == "0 3 * * 1" and with_schedule("never", "null") is None
