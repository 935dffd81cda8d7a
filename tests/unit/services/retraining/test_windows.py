"""Where windows of history begin: days without labels are no days to learn from."""

import numpy as np
import pyarrow as pa
import pytest

from tidemill.services.retraining.domain.examples import DAY_MS, Examples, Split, Stretches

PER_DAY = 50


def rows_of(days: list[int], left_out: Stretches = ()) -> Examples:
    """Labelled rows of some days, whose labels come within the hour."""
    asked = np.concatenate([day * DAY_MS + np.arange(PER_DAY) * (DAY_MS // PER_DAY) for day in days])
    features = pa.RecordBatch.from_pydict({"x": np.zeros(len(asked))})
    return Examples(features, asked, asked + 3_600_000, np.zeros(len(asked)), None, left_out)


def learned_days(rows: Examples, last: float, window_days: int) -> list[int]:
    """Return the days of which most rows are learned: the hours between two rows are no days."""
    split = Split.of(round(last * DAY_MS), 5, 0)
    learned = split.learning(rows, round(last * DAY_MS), window_days)
    return np.flatnonzero(np.bincount(learned.request_ms // DAY_MS) > PER_DAY // 2).tolist()


@pytest.mark.parametrize("missing", [8, 10, 25])
def test_after_an_outage_of_labels_a_window_has_its_days_of_labels(missing: int) -> None:
    """A refit after ten days without labels learned from four days of fourteen."""
    days = [day for day in range(60) if not 40 - missing <= day < 40]
    assert learned_days(rows_of(days), 40, 14) == list(range(26 - missing, 40 - missing)), "within the outage"
    assert learned_days(rows_of(days), 43, 14) == [*range(29 - missing, 40 - missing), 40, 41, 42], "after it"
    assert learned_days(rows_of(days), 60, 14) == list(range(46, 60)), "long after it"
    assert learned_days(rows_of(days), 43, 0) == [day for day in days if day < 43]


def test_a_few_days_without_labels_count() -> None:
    """Week-ends, holidays: a window of days is one of the calendar."""
    days = [day for day in range(40) if day % 7 not in (5, 6)]
    assert learned_days(rows_of(days), 40, 14) == [day for day in days if day >= 26]


def test_what_was_left_out_is_not_counted_twice() -> None:
    left_out = ((30 * DAY_MS, 39 * DAY_MS),)
    days = [day for day in range(50) if not 30 <= day < 39]
    assert learned_days(rows_of(days, left_out), 42, 14) == [*range(19, 30), 39, 40, 41]
    # The stretch goes on, and its rows are cut off in its midst.
    assert learned_days(rows_of(days, left_out), 38, 14) == list(range(16, 30))


def test_one_day_of_labels_between_two_outages_is_learned_with_those_before() -> None:
    days = [*range(20), 35, 50, 51]
    assert learned_days(rows_of(days), 52, 7) == [*range(16, 20), 35, 50, 51]
