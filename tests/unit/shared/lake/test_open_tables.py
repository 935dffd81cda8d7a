"""A table that is kept open follows other writers, and is not taken for one that was made anew in its place."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from tidemill.shared.lake import open_tables
from tidemill.shared.lake.tables import Lake


def batch(begin: int, end: int) -> tuple[pa.Table, list[int]]:
    return pa.table({"x": np.arange(begin, end, dtype=np.float64)}), list(range(begin, end))


def rows(folder: Path) -> list[float]:
    return sorted(DeltaTable(str(folder / "app" / "t")).to_pyarrow_table().column("x").to_pylist())


def append(lake: Lake, begin: int, end: int, writer: str = "w") -> int:
    content, offsets = batch(begin, end)
    return lake.append("t", content, writer, offsets)


def test_two_processes_append_in_turn_and_nothing_is_doubled(tmp_path: Path) -> None:
    first, second = Lake(str(tmp_path), "app"), Lake(str(tmp_path), "app")
    for i in range(6):
        assert append(first if i % 2 else second, 10 * i, 10 * i + 10) == 10
        assert append(second if i % 2 else first, 10 * i - 5 if i else 0, 10 * i + 10) == 0, "the other one has written them"
    assert append(first, 0, 5, "another") == 5
    assert rows(tmp_path) == sorted([*np.arange(60.0), *np.arange(5.0)])


@pytest.mark.parametrize("commits", [1, 3, 7])
def test_a_table_made_anew_in_its_place_is_another_one(tmp_path: Path, commits: int) -> None:
    """With fewer commits, as many, and more than the one that was kept has."""
    first = Lake(str(tmp_path), "app")
    for i in range(2):
        append(first, 10 * i, 10 * i + 10)
    shutil.rmtree(tmp_path / "app" / "t")
    second = Lake(str(tmp_path), "app")
    for i in range(commits):
        append(second, i, i + 1)
    assert append(first, 0, 20) == 20 - commits
    assert rows(tmp_path) == list(np.arange(20.0))
    versions = sorted(int(file.stem) for file in (tmp_path / "app" / "t" / "_delta_log").glob("*.json"))
    assert versions == list(range(commits + 2)), "one commit after the other, none left out"


def test_a_removed_table_is_made_again(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path), "app")
    append(lake, 0, 10)
    shutil.rmtree(tmp_path / "app" / "t")
    assert append(lake, 10, 20) == 10
    assert rows(tmp_path) == list(np.arange(10.0, 20.0))


def test_a_table_is_opened_once_in_ten_appends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    class Counted(DeltaTable):
        def __init__(self, uri: str) -> None:
            opened.append(uri)
            super().__init__(uri)

    monkeypatch.setattr(open_tables, "DeltaTable", Counted)
    lake = Lake(str(tmp_path), "app")
    for i in range(12):
        append(lake, 10 * i, 10 * i + 10)
        assert opened == [str(tmp_path / "app" / "t")] * (1 + i // 10)
    assert rows(tmp_path) == list(np.arange(120.0))
