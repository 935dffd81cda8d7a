"""`tidemill mlflow`: which store is meant, and what is said when there is none."""

import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidemill.deploy.mlflow_ui import mlflow_component, ui_environment
from tidemill.services.cli.__main__ import app

PAYMENTS = str(Path(__file__).parents[4] / "examples" / "payments")


def said(*options: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["mlflow", PAYMENTS, *options])
    return result.exit_code, " ".join(result.output.split())


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TIDEMILL_TRACKING__URI", raising=False)
    code, words = said("--run", "nowhere")
    assert code == 2 and "expected a store of trainings, found no nowhere/mlflow.db" in words and "backtest --keep" in words
    code, words = said("--store", f"sqlite:///{tmp_path}/none.db")
    assert code == 2 and "none.db" in words
    code, words = said("--store", "http://mlflow.example.org")
    assert code == 2 and "expected sqlite:///FILE" in words
    assert list(tmp_path.iterdir()) == []


def test_pages_that_are_installed_are_not_installed_again(tmp_path: Path) -> None:
    place = tmp_path / version("mlflow-skinny")
    place.mkdir()
    (place / ".ready").touch()
    told: list[str] = []
    assert ui_environment(tmp_path, told.append) == place and told == []


def test_the_server_is_of_that_environment_and_listens_here_alone(tmp_path: Path) -> None:
    component = mlflow_component(tmp_path / "env", "sqlite:////data/mlflow.db", tmp_path, 21_000)
    command = list(component.command)
    assert command[0] == str(tmp_path / "env" / "bin" / "python") != sys.executable
    assert command[command.index("--host") + 1] == "127.0.0.1" and command[command.index("--backend-store-uri") + 1] == "sqlite:////data/mlflow.db"
    assert component.address == "http://127.0.0.1:21000" and not component.ready()
