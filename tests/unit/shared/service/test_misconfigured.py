"""A service that is started by itself refuses what the commands refuse before it does anything: a word and exit code 2, which nobody starts again."""

import os
import runpy
import shutil
from pathlib import Path

import pytest

from tidemill.shared.observability.settings import ServiceSettings
from tidemill.shared.service.service_process import MISCONFIGURED, Surroundings, run_process

PAYMENTS = Path(__file__).parents[4] / "examples" / "payments"


def started(name: str) -> int:
    """Start a service that ends at once; returns its exit code."""
    if name != "gateway":

        def nothing(_: Surroundings[ServiceSettings]) -> None:
            return

        return run_process(name, ServiceSettings, nothing)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("tidemill.services.gateway", run_name="__main__")
    return int(str(ended.value.code))


@pytest.mark.parametrize("name", ["drift", "gateway"])
def test_bytes_that_are_no_text_are_refused_and_those_of_secrets_not_shown(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(PAYMENTS, tmp_path / "caf\udce9"))
    monkeypatch.setenv("TIDEMILL_APPLICATION", str(folder))
    monkeypatch.setenv("TIDEMILL_COMMANDS__KEY", "k" * 16)
    assert started(name) == MISCONFIGURED
    told = capsys.readouterr().err
    assert told.startswith(f"{name}: expected UTF-8 as the setting 'TIDEMILL_APPLICATION', found another byte as character") and "caf" not in told


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["drift", "gateway"])
@pytest.mark.parametrize("setting", ["TIDEMILL_COMMANDS__KEY_FILE", "TIDEMILL_APPLICATION"])
def test_a_pipe_is_refused_and_not_waited_for(
    name: str, setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(PAYMENTS, tmp_path / "app"))
    monkeypatch.setenv("TIDEMILL_APPLICATION", str(folder))
    pipe = tmp_path / "key" if setting.endswith("KEY_FILE") else folder / "app.yaml"
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    if setting.endswith("KEY_FILE"):
        monkeypatch.setenv(setting, str(pipe))
    assert started(name) == MISCONFIGURED
    told = capsys.readouterr().err
    assert str(pipe) in told and ("a pipe" in told or "expected an application file" in told)
