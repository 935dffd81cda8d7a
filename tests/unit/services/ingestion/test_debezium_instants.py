"""Times as text: each is read, or is none, by itself, whatever stands beside it."""

import pyarrow as pa
import pytest

from tidemill.shared.application.debezium_rows import instants

EARLIEST, LATEST = -62_135_596_800_000_000, 253_402_300_800_000_000


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("9999-12-31T23:59:59-12:00", LATEST - 1_000_000 + 12 * 3_600_000_000), ("0001-01-01T00:00:00+14:00", EARLIEST - 14 * 3_600_000_000),
        ("2024-01-15T12:30:45.123456Z", 1_705_321_845_123_456), (None, None),
    ],
)  # fmt: skip
def test_a_time_that_no_calendar_of_python_has_is_read_beside_one_that_is_none(text: str | None, micros: int | None) -> None:
    alone, good = instants(pa.array([text], pa.string()))
    beside, bad = instants(pa.array([text, "infinity"], pa.string()))
    assert alone.view(pa.int64()).to_pylist() == [micros] and not good.any()
    assert beside.view(pa.int64()).to_pylist() == [micros, None] and bad.tolist() == [False, True]
