"""Times written as numbers or text: what is declared is read, what is not declared and doubtful is refused with what it may be."""

import re
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tidemill.shared.avro.times import CellError, DoubtfulTimeError, implausible, parse_time_format, read_time, read_times

MOMENT = datetime(2024, 1, 15, 12, 30, 45, tzinfo=UTC)
SECONDS = int(MOMENT.timestamp())


@pytest.mark.parametrize(
    ("item", "declared"),
    [
        (SECONDS, "seconds"),
        (str(SECONDS), "seconds"),
        (float(SECONDS), "seconds"),
        (f"{SECONDS}.0", "seconds"),
        (SECONDS * 1_000, None),
        (SECONDS * 1_000, "milliseconds"),
        (f"{SECONDS}000", None),
        (f"{SECONDS}000.0", None),
        (SECONDS * 10**6, "microseconds"),
        (str(SECONDS * 10**9), "nanoseconds"),
        ("2024-01-15T12:30:45Z", None),
        ("2024-01-15 12:30:45", None),
        ("2024-01-15T13:30:45+01:00", "iso8601"),
        ("20240115123045", "%Y%m%d%H%M%S"),
        (20240115123045, "%Y%m%d%H%M%S"),
        ("15.01.2024 12:30:45", "%d.%m.%Y %H:%M:%S"),
        ("15.01.2024 13:30:45 +0100", "%d.%m.%Y %H:%M:%S %z"),
    ],
)
def test_one_moment_written_in_many_ways(item: int | float | str, declared: str | None) -> None:
    assert read_time(item, declared) == SECONDS * 1_000
    column = pa.array([item, None, item])
    assert read_times(column, declared, every=True).view("int64").to_pylist() == [SECONDS * 1_000, None, SECONDS * 1_000]


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (1_704_067_200, r"1704067200, which in milliseconds is 1970-01-20T17:21:07.*`seconds` \(2024-01-01T00:00:00"),
        (1_704_067_200_000_000, r"`microseconds` \(2024-01-01T00:00:00"),
        (1_704_067_200_000_000_000, r"`nanoseconds` \(2024-01-01T00:00:00"),
        (20240115, r'20240115, which in milliseconds is 1970.*`"%Y%m%d"` \(2024-01-15T00:00:00Z\)'),
        (202401151230, r'1976.*`"%Y%m%d%H%M"` \(2024-01-15T12:30:00Z\)'),
        (20240115123000, r'2611.*`"%Y%m%d%H%M%S"` \(2024-01-15T12:30:00Z\)'),
        (10**30, r"found 1000000000000000000000000000000"),
    ],
)
def test_a_doubtful_number_is_refused_with_what_it_may_be(number: int, says: str) -> None:
    with pytest.raises(DoubtfulTimeError, match=says) as refused:
        read_time(number, None)
    assert "declare what it is in the stream's `times`" in str(refused.value)
    for column in (pa.array([str(number)]), *([pa.array([number])] if number < 2**63 else [])):
        with pytest.raises(CellError, match=says):
            read_times(column, None, every=False)


def test_milliseconds_that_are_declared_are_believed() -> None:
    assert read_time(20240115, "milliseconds") == 20240115
    assert read_times(pa.array(["20240115", "0"]), "milliseconds", every=True).view("int64").to_pylist() == [20240115, 0]


def test_real_times_are_not_doubted() -> None:
    times = pd.date_range("1971-01-01", "2199-01-01", freq="13h").to_numpy("datetime64[ms]").astype(np.int64)
    doubted = times[implausible(times)]
    # The digits of these are a date and an hour: a few in ten thousand, for which the unit must be declared.
    assert all(re.fullmatch(r"(19|20)\d\d(0\d|1[0-2])[0-3]\d{5}", str(time)) for time in doubted.tolist())
    assert len(doubted) < 300
    assert not implausible(np.array([0, -86_400_000 * 400], np.int64)).any()


def test_one_plausible_time_is_enough_where_not_every_one_must_be() -> None:
    birthdays = pa.array([86_400_000 * 10, 86_400_000 * 9_000, None])
    assert read_times(birthdays, None, every=False).null_count == 1
    with pytest.raises(CellError) as refused:
        read_times(birthdays, None, every=True)
    assert refused.value.row == 0


@pytest.mark.parametrize(
    ("item", "declared", "says"),
    [
        ("noon", None, "found 'noon'"),
        ("2024-02-30", None, "found '2024-02-30'"),
        ("2024115", "%Y%m%d", "with all its digits, found '2024115'"),
        ("2024-01-15", "%Y%m%d", "found '2024-01-15'"),
        ("much", "seconds", "expected a number, found 'much'"),
        (float("inf"), "seconds", "found inf"),
        (float("-inf"), None, "expected a time in the years 1 to 9999 in milliseconds, found -inf"),
        (1_704_067_200_000.5, None, "whole milliseconds"),
        (10**12, "seconds", "years 1 to 9999 in seconds"),
    ],
)
def test_what_is_no_time_is_refused(item: int | float | str, declared: str | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_time(item, declared)
    with pytest.raises(CellError, match=says) as refused:
        read_times(pa.array([None, item]), declared, every=True)
    assert refused.value.row == 1


@pytest.mark.parametrize("text", ["minutes", "%H:%M", "%Q%Y", ""])
def test_formats_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="such as '%Y%m%d', found"):
        parse_time_format(text)
