"""Which vectors mean what the present definitions mean, by the marks of the switches."""

import json

import numpy as np
import pyarrow as pa
import pytest

from tidemill.shared.lake.names import VIEW_SWITCHES
from tidemill.shared.lake.switches import SWITCHES, ViewSwitch, last_switches, of_the_same_meaning, view_switches
from tidemill.shared.lake.tables import Lake, delta_ready

Mark = tuple[int, int, str, str, dict[str, str]]
FIRST: Mark = (0, 0, "one", "", {"a": "1", "b": "1"})
SECOND: Mark = (0, 100, "two", "one", {"a": "2", "b": "1"})
THIRD: Mark = (0, 100, "three", "two", {"a": "1", "b": "3", "c": "1"})


def archive(lake: Lake, *marks: Mark) -> None:
    """Write marks one by one, as after restarts of the archive; their order in the log is that in which they are given."""
    for place, (partition, offset, version, previous, features) in reversed(list(enumerate(marks))):
        row = {
            "journal_partition": partition, "journal_offset": offset, "journal_time": 1_000 + offset, "view_version": version, "previous": previous,
            "features": json.dumps(features), "application_hash": "h", "code_version": "c", "log_offset": place,
        }  # fmt: skip
        lake.append(VIEW_SWITCHES, delta_ready(pa.Table.from_pylist([row], schema=SWITCHES)), f"w:{place}", [place])


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"a": "1"}, [True, True, True]),
        ({"a": "1", "b": "1"}, [True, True, False]),
        ({"b": "3"}, [False, False, True]),
        ({"c": "1"}, [False, False, True]),
        ({}, [True, True, True]),
    ],
)
def test_a_vector_counts_while_every_column_was_defined_as_now(tmp_path: object, columns: dict[str, str], expected: list[bool]) -> None:
    lake = Lake(str(tmp_path), "app")
    archive(lake, FIRST, SECOND, THIRD)
    counts = of_the_same_meaning(view_switches(lake), columns, np.zeros(3, np.int64), np.array([0, 99, 100]))
    assert counts.tolist() == expected
    assert last_switches(lake)[0].view_version == "three"


def test_what_stands_before_the_first_mark_is_of_its_meaning_unless_that_follows_another_version() -> None:
    def before(previous: str) -> list[bool]:
        marks = [ViewSwitch(0, 50, 0, "one", previous, {"a": "1"})]
        return list(map(bool, of_the_same_meaning(marks, {"a": "1"}, np.zeros(2, np.int64), np.array([10, 60]))))

    assert before("") == [True, True] and before("zero") == [False, True]


def test_partitions_have_marks_of_their_own_and_no_marks_exclude_nothing() -> None:
    assert of_the_same_meaning([], {"a": "1"}, np.array([0, 1]), np.array([5, 5])).tolist() == [True, True]


def test_an_archive_without_marks_has_none(tmp_path: object) -> None:
    assert view_switches(Lake(str(tmp_path), "app")) == []
