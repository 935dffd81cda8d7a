"""`tidemill mlflow`: which store is meant, and what is said when there is none."""

import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidemill.deploy.mlflow_ui import mlflow_component, runs_page, ui_environment
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


def test_what_is_opened_is_the_page_of_the_applications_runs() -> None:
    asked: list[str] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            is_page = "experiment_name=my+app" in self.path
            self.send_response(200 if is_page else 404 if "other" in self.path else 500)
            self.end_headers()
            self.wfile.write(b'{"experiment": {"experiment_id": "7"}}' if is_page else b"{}")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            assert runs_page(address, "my app") == f"{address}/#/experiments/7/runs?workflowType=machine_learning"
            assert runs_page(address, "other") == address, "nothing was trained yet"
            with pytest.raises(OSError, match="500"):
                runs_page(address, "broken")
        finally:
            server.shutdown()
            thread.join()
    assert len(asked) == 3
