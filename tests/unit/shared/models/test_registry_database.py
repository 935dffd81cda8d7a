"""A new registry's database: MLflow's own tables, without the steps that lead to them."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tidemill.shared.models import registry_database
from tidemill.shared.models.registry import ModelRegistry
from tidemill.shared.models.registry_database import make_database

pytestmark = pytest.mark.lasts(3)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's cache, with nothing in it."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setattr(registry_database, "cache_folder", lambda: folder)
    return folder


def content(path: Path) -> tuple[dict[str, list[list[str]]], dict[str, list[tuple[object, ...]]]]:
    """What the tables are made of, whatever the order in which MLflow added it, and the rows of each but for times."""
    with closing(sqlite3.connect(path)) as database:
        described = database.execute("SELECT type || name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: [tuple(value for value in row if not _is_time(value)) for row in database.execute(f"SELECT * FROM {name}")] for name in tables}
    return {name: [sorted(line.strip(" ,")) for line in sorted(sql.replace(",", "\n").split("\n"))] for name, sql in described}, rows


def _is_time(value: object) -> bool:
    return isinstance(value, int) and value > 1_000_000_000_000


@pytest.mark.usefixtures("cache")
def test_it_is_made_with_the_tables_and_the_rows_that_mlflow_gives_its_own(tmp_path: Path) -> None:
    mlflow, made = tmp_path / "mlflow.db", tmp_path / "made.db"
    MlflowClient(f"sqlite:///{mlflow}", f"sqlite:///{mlflow}")
    make_database(made)
    tables, rows = content(mlflow)
    assert content(made) == (tables, {**rows, "experiments": []}), "whole, before MLflow opens it"
    ModelRegistry(f"sqlite:///{made}")
    assert content(made) == (tables, rows)
    assert not list(tmp_path.glob(".*"))


def test_a_registry_that_exists_is_left_as_it_is(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(b"someone's")
    make_database(path)
    assert path.read_bytes() == b"someone's"
    assert not list(cache.glob("mlflow/*.db"))


def test_of_several_that_make_it_at_once_one_does(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "mlflow.db"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(make_database, [path] * 4))
    (kept,) = cache.glob("mlflow/*.db")
    assert path.read_bytes() == kept.read_bytes()
    assert path.stat().st_ino != kept.stat().st_ino


def test_the_cache_keeps_the_database_of_the_version_that_runs(tmp_path: Path, cache: Path) -> None:
    (cache / "mlflow").mkdir()
    (cache / "mlflow" / "mlflow-1.0.db").write_bytes(b"another version's")
    make_database(tmp_path / "mlflow.db")
    assert not (cache / "mlflow" / "mlflow-1.0.db").exists()
    ModelRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}")


def test_without_a_cache_mlflow_makes_its_tables(tmp_path: Path, cache: Path) -> None:
    cache.rmdir()
    cache.touch()
    path = tmp_path / "mlflow.db"
    make_database(path)
    assert not path.exists()
    ModelRegistry(f"sqlite:///{path}")
    assert content(path)[1]["workspaces"]
