"""Tables whose numbers, labels or order are unusual: the application still holds its own table, and what keeps a model from being learned is said."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from tests.unit.tidemill.init.tables import NOW_MS, csv
from tidemill.init.init import InitOptions, InitResult, init
from tidemill.init.reading import read_table
from tidemill.init.roles import Roles
from tidemill.init.timeline import LabelDelay
from tidemill.replay.dataset_files import FileOptions, read_folder
from tidemill.replay.file_rows import DataSetError
from tidemill.shared.application.planning import load_plan

ROWS = 400
PLACES = np.arange(ROWS)


def rows(**columns: object) -> pd.DataFrame:
    generator = np.random.default_rng(3)
    x = generator.normal(size=ROWS).round(3)
    return pd.DataFrame({"x": x, "y": (x + generator.normal(size=ROWS) > 0).astype(int), **columns})


def made(tmp_path: Path, frame: pd.DataFrame, delay: str | None = None, time: str | None = None) -> InitResult:
    parsed = None if delay is None else LabelDelay.parse(delay)
    tmp_path.mkdir(exist_ok=True)
    return init(InitOptions(tmp_path / "app", csv(tmp_path, frame), Roles("y", time), delay=parsed), NOW_MS)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(10**9 + PLACES * 7 % 13, id="far from zero and near each other"),
        pytest.param([f"{1e6 + place % 17 * 1e-4:.7f}" for place in PLACES], id="the same, with fractions"),
        pytest.param([f"{(place % 19 - 9) * 1e-15:.6e}" for place in PLACES], id="small"),
        pytest.param([f"{place % 19 * 1e-300:.6e}" for place in PLACES], id="hardly anything"),
        pytest.param([f"{place % 19 * 1.1e20:.6e}" for place in PLACES], id="large"),
        pytest.param([f"{place % 19 * 1e300:.6e}" for place in PLACES], id="hardly a double"),
        pytest.param(["1e308" if place % 3 else "-1e308" for place in PLACES], id="as far apart as no double"),
        pytest.param(2**62 - PLACES * 5 % 77, id="whole numbers that no double holds"),
        pytest.param(2**63 - 1 - PLACES % 7, id="the largest"),
        pytest.param(-(2**63) + PLACES % 7, id="the least"),
    ],
)
def test_a_tables_own_numbers_are_as_expected(tmp_path: Path, values: object) -> None:
    made(tmp_path, rows(a=values))
    plan = load_plan(tmp_path / "app")
    table = read_folder(plan, tmp_path / "app" / "data", FileOptions())["events"].columns
    batch = table.combine_chunks().to_batches()[0]
    for one in plan.streams["events"].expectations:
        assert all(one.check.evaluate(batch).to_pylist()), one.name


def test_nineteen_digits_are_nanoseconds_and_whole_numbers(tmp_path: Path) -> None:
    began = 1_700_000_000
    result = made(tmp_path, rows(t=[(began + 60 * place) * 10**9 for place in PLACES], k=9 * 10**18 + PLACES * 7 % 1000), time="t")
    assert int(result.written.times.asked_ms[1]) == (began + 60) * 1_000
    assert datetime.fromtimestamp(began, UTC).isoformat()[:19] in " ".join(result.written.times.facts)
    events = pl.read_parquet(tmp_path / "app" / "data" / "events.parquet")
    assert events["k"].to_list() == [9 * 10**18 + place * 7 % 1000 for place in range(ROWS)]


def test_json_keeps_every_digit_of_whole_numbers(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("\n".join(f'{{"k": {10**30 + place}, "f": {place}.5}}' for place in range(5)))
    frame = read_table(tmp_path / "t.jsonl").frame
    assert frame["k"].to_list() == [str(10**30 + place) for place in range(5)]
    assert frame["f"].to_list() == [place + 0.5 for place in range(5)]


def test_counts_with_a_tail_are_numbers_and_ratings_are_classes(tmp_path: Path) -> None:
    counts = np.random.default_rng(4).poisson(2.5, ROWS)
    question = made(tmp_path / "a", rows(y=counts)).written.question
    assert question.kind == "regression" and "if they name classes, say --kind multiclass" in question.evidence
    ratings = np.random.default_rng(4).integers(1, 6, ROWS)
    assert made(tmp_path / "b", rows(y=ratings)).written.question.kind == "multiclass"


def test_fractions_are_no_classes(tmp_path: Path) -> None:
    options = InitOptions(tmp_path / "app", csv(tmp_path, rows(y=PLACES % 5 * 1.5)), Roles("y"), kind="multiclass")
    with pytest.raises(DataSetError, match=r"expected whole numbers or texts \(kind: multiclass\), found 1.5: say --kind regression"):
        init(options, NOW_MS)


@pytest.mark.parametrize(
    ("frame", "delay", "expected"),
    [
        (rows(y=[("yes", "YES", "no")[place % 3] for place in PLACES]), None, "the classes 'YES', 'yes' are spelled alike"),
        (rows(), "5000", "all labels come after the last row of the table"),
        (rows(y=(PLACES > ROWS // 2).astype(int)), None, "the class '1' has 0 of the first 160 labels and 199 of all 400: are the rows sorted"),
        (rows(y=np.sort(np.random.default_rng(5).normal(size=ROWS))), None, "the label rises from row to row"),
        (pd.concat([rows(z=PLACES % 5).head(80)] * 5), None, "copies of another row"),
        (rows(z="x" * 3_000), None, "it is 'xxx"),
    ],
)
def test_what_keeps_a_model_from_being_learned_is_said(tmp_path: Path, frame: pd.DataFrame, delay: str | None, expected: str) -> None:
    warnings = made(tmp_path, frame, delay).warnings
    (said,) = [warning for warning in warnings if expected in warning]
    assert len(said) < 400


def test_nothing_of_it_is_said_of_an_ordinary_table(tmp_path: Path) -> None:
    assert made(tmp_path, rows(z=PLACES % 5), "20").warnings == []


def test_a_column_whose_values_do_not_come_again_and_an_entity_that_comes_once_are_warned_of(tmp_path: Path) -> None:
    """Weeks, quarters and years in the order of time; not the same values in turn, nor an entity that does come again."""
    weeks = [f"2025-W{place // 20 + 1:02}" for place in PLACES]
    frame = rows(week=weeks, year=2000 + PLACES // 25, turn=PLACES // 20 % 10, kind=[f"k{place % 20}" for place in PLACES])
    frame = frame.assign(once=[f"c{place}" for place in PLACES], again=[f"c{place // 2}" for place in PLACES])
    told = init(InitOptions(tmp_path / "app", csv(tmp_path, frame), Roles("y", entities=("once", "again"))), NOW_MS).warnings
    following = [warning for warning in told if "follow each other and do not come again" in warning]
    assert ["'week'" in following[0] and "20 in 20 stretches" in following[0], "'year'" in following[1]] == [True, True] and len(following) == 2
    assert [warning for warning in told if "the entity" in warning] == [
        "the entity 'once' comes again in 0 of 400 rows: hardly anything is remembered of it; if it names a row, say --id once"
    ]


def test_classes_that_differ_in_a_sign_are_not_spelled_alike(tmp_path: Path) -> None:
    for number, (classes, alike) in enumerate(((("-1", "1"), False), (("a-b", "a_b"), True), (("a b", "A-B"), True))):
        frame = rows()
        told = made(tmp_path / str(number), frame.assign(y=np.where(frame["y"] > 0, classes[1], classes[0]))).warnings
        assert any("spelled alike" in warning for warning in told) == alike, classes


def test_spaces_around_the_names_of_columns_are_none_of_them_unless_they_tell_two_apart(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text(" x , y \n1,2\n")
    assert read_table(file).frame.columns == ["x", "y"]
    file.write_text("x,x ,y\n1,2,3\n")
    assert read_table(file).frame.columns == ["x", "x ", "y"]


def test_the_work_for_a_wide_table_grows_with_its_columns_and_not_with_their_square(tmp_path: Path) -> None:
    """Counted in calls, some fifty a column, which are the same on any machine: 1,000 columns took 20 seconds to be read, 2,000 took 100."""
    width, calls = 300, 0
    frame = pd.DataFrame({f"c{place}": PLACES[:40] * (place + 1) % 7 for place in range(width)} | {"y": PLACES[:40] % 2})
    made(tmp_path, frame)
    plan = load_plan(tmp_path / "app")

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        read_folder(plan, tmp_path / "app" / "data", FileOptions())
    finally:
        sys.setprofile(None)
    assert calls < 200 * width
