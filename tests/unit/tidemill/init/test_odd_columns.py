"""Columns and classes that are called as nobody would: the application that `init` writes is one that `check` takes, and holds the table."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.unit.tidemill.init.tables import NOW_MS, csv, river_table
from tidemill.init.init import InitOptions, InitResult, init
from tidemill.init.roles import Roles
from tidemill.init.timeline import LabelDelay
from tidemill.replay.dataset_files import FileOptions, read_folder
from tidemill.replay.file_rows import DataSetError
from tidemill.shared.application.planning import load_plan

BANANAS = river_table("Bananas", "y", 120).rename(columns={"1": "width", "2": "height"})


def made(folder: Path, frame: pd.DataFrame, **roles: Any) -> InitResult:  # of any type, by name
    folder.mkdir(exist_ok=True)
    return init(InitOptions(folder / "app", csv(folder, frame), Roles("y", **roles)), NOW_MS)


@pytest.mark.parametrize(
    ("columns", "roles"),
    [
        ({"event_time": [f"k{n}" for n in range(120)]}, {"identity": "event_time"}),
        ({"label_time": [f"k{n}" for n in range(120)]}, {"identity": "label_time"}),
        ({"event_id": [1_711_756_800 + n for n in range(120)]}, {"time": "event_id"}),
        ({"all": [n % 5 for n in range(120)], "All": [n % 7 for n in range(120)]}, {"entities": ("all",)}),
        (
            {
                "user": [n % 5 for n in range(120)],
                "user_device": [n % 7 for n in range(120)],
                "device_age": np.arange(120) / 7,
                "age": np.arange(120) / 3,
            },
            {"entities": ("user", "user_device")},
        ),
    ],
    ids=["id called event_time", "id called label_time", "time called event_id", "entity called all", "views called alike"],
)
def test_columns_called_as_what_init_adds_keep_apart_from_it(tmp_path: Path, columns: dict[str, Any], roles: dict[str, object]) -> None:
    made(tmp_path, BANANAS.assign(**columns), **roles)
    plan = load_plan(tmp_path / "app")
    assert len({view.name for view in plan.views}) == len(plan.views)
    tables = read_folder(plan, tmp_path / "app/data", FileOptions())
    assert {name: len(table) for name, table in tables.items()} == {"events": 120, "labels": 120}


@pytest.mark.parametrize(
    "classes", [["two\nlines", "tab\there", "\x1besc"], ["nel\x85x", 'it\'s \\ "so"', "\u2028ls"], [2**60, 2**60 + 1], [2**60, 2**60 + 1, -(2**62)]]
)
def test_classes_and_texts_of_any_characters_and_digits_are_what_they_are(tmp_path: Path, classes: list[Any]) -> None:
    """Line ends in a class ended in an application file that was no YAML, and classes beyond 2^53 in one that `check` refused."""
    kinds = [classes[n % len(classes)] for n in range(120)]
    made(tmp_path, BANANAS.assign(y=kinds, text=[str(kind) for kind in reversed(kinds)]))
    plan = load_plan(tmp_path / "app")
    tables = read_folder(plan, tmp_path / "app/data", FileOptions())
    (rows,) = tables["labels"].columns.combine_chunks().to_batches()
    labels, good = plan.models["y"].label.labels(plan.models["y"].label.value.evaluate(rows))
    assert good.all() and len(set(labels.tolist())) == len(classes)
    (asked,) = tables["events"].columns.combine_chunks().to_batches()
    assert all(all(one.check.evaluate(asked).to_pylist()) for one in plan.streams["events"].expectations)


def test_units_of_times_are_declared_for_a_csv_file_as_well(tmp_path: Path) -> None:
    file = csv(tmp_path, BANANAS.assign(at=[2_000_000_000 + n for n in range(120)]))
    result = init(InitOptions(tmp_path / "app", file, Roles("y", "at"), time_format="milliseconds"), NOW_MS)
    assert result.written.times.asked_ms[0] == 2_000_000_000


def test_of_two_classes_as_frequent_none_is_called_the_rarer_one(tmp_path: Path) -> None:
    for number, (pair, positive, why) in enumerate(
        ((("p", "q"), "p", "as frequent"), (("off", "on"), "on", "by its name"), (("falsch", "wahr"), "wahr", "by its name"))
    ):
        question = made(tmp_path / str(number), BANANAS.assign(y=[*pair] * 60)).written.question
        assert question.classes[1] == positive and why in question.evidence


def test_a_label_that_is_measured_is_a_number_where_regression_is_asked_for(tmp_path: Path) -> None:
    file = csv(tmp_path, BANANAS.assign(y=[f"{n * 7 % 50}.5 kg" for n in range(120)]))
    question = init(InitOptions(tmp_path / "app", file, Roles("y"), kind="regression"), NOW_MS).written.question
    assert question.labels.to_list()[:3] == [0.5, 7.5, 14.5]


def test_classes_that_look_alike_are_told(tmp_path: Path) -> None:
    for number, pair in enumerate((("caf\u00e9", "cafe\u0301"), ("yes", "yes\u200b"))):
        (told,) = [one for one in made(tmp_path / str(number), BANANAS.assign(y=[*pair, "no"] * 40)).warnings if "spelled alike" in one]
        assert str(pair[1].encode("ascii", "ignore").decode()) in told


def test_labels_that_become_known_in_the_year_9999_are_not_known_yet(tmp_path: Path) -> None:
    """Their delay of eighty centuries made an application that `check` refused, as a delay of a century did."""
    asked = pd.date_range("2025-03-01", periods=120, freq="h")
    known = [str(at + pd.Timedelta(hours=2)) if n % 4 else "9999-12-31 00:00:00" for n, at in enumerate(asked)]
    result = made(tmp_path / "a", BANANAS.assign(at=asked, known=known), time="at", label_time="known")
    assert result.written.question.known == 90 and any("9999-12-31T00:00:00.000Z in row 1 (30 such rows)" in one for one in result.warnings)
    load_plan(tmp_path / "a" / "app")
    with pytest.raises(DataSetError, match=r"'known': expected times before the end of next year, .*\(120 such rows\)"):
        made(tmp_path / "b", BANANAS.assign(at=asked, known="9999-12-31"), time="at", label_time="known")
    file = csv(tmp_path, BANANAS)
    init(InitOptions(tmp_path / "app", file, Roles("y"), delay=LabelDelay.parse("36525d")), NOW_MS)
    load_plan(tmp_path / "app")


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ({"identity": "at", "time": "at"}, "--id: expected another column than --time 'at'"),
        ({"entities": ("at",), "time": "at"}, "--entity: expected another column than --time 'at'"),
        ({"entities": ("k",), "identity": "k"}, "--entity: expected another column than --id 'k'"),
    ],
)
def test_a_column_has_one_role(tmp_path: Path, roles: dict[str, object], expected: str) -> None:
    """One that was id and time ended in polars' own error, and an entity that was one of them was passed over."""
    with pytest.raises(DataSetError, match=expected):
        made(tmp_path, BANANAS.assign(at=[1_711_756_800 + n for n in range(120)], k=range(120)), **roles)
